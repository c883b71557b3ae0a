"""A look into a model, cell by cell: what it expects, what surprises it, what else it might say.

Editors with notebooks run the cells between the `# %%` marks; as a program it runs all of them:

    python examples/notebook.py MODEL
"""

# %% A model, kept for all cells
import sys
from math import exp

from llama_core import Plugins
from llama_core.engine.chains import standard
from llama_core.engine.load import load
from llama_core.engine.request import Params

USAGE = "usage: python examples/notebook.py MODEL"
MODEL = sys.argv[1] if len(sys.argv) == 2 else sys.exit(USAGE)  # a notebook: your model's path
model = load(MODEL, plugins=Plugins.load())
print(f"{model.name} on {model.choice.name} ({model.choice.reason})")

# %% What comes next, and how likely it is
text = "Once upon a time there was a little"
params = Params(max_tokens=1, logprobs=5)
choice = model.engine.generate(model.request(text, params)).choices[0]
for token, logprob in choice.logprobs[0].top:
    print(f"{exp(logprob):6.1%}  {model.tokenizer.decode([token])!r}")

# %% What surprised it: the least likely tokens of a text
request = model.request("The cat sat on the elephant.", Params(max_tokens=1, prompt_logprobs=0))
scores = model.engine.generate(request).prompt_logprobs
known = [(one.logprob, one.rank, model.tokenizer.decode([one.token])) for one in scores if one]
for logprob, rank, piece in sorted(known)[:3]:
    print(f"{exp(logprob):8.3%}  rank {rank:4}  {piece!r}")

# %% Three ways to go on, from one prompt that is computed once
transforms, sampler = standard(temperature=0.9, top_p=0.95)
params = Params(max_tokens=30, n=3, transforms=transforms, sampler=sampler, seed=1)
for choice in model.engine.generate(model.request(text, params)).choices:
    print("-", " ".join(choice.text.split()))

# %% When done
model.close()
