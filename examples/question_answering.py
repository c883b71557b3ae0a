"""Answer a question about a passage, and say how sure the model was of each word.

    python examples/question_answering.py MODEL "What colour was the ball?" \
        --passage "Tim had a red ball. He lost it in the park."
"""

from __future__ import annotations

import argparse
import json
import math
import sys

from llama_core import LlamaError, Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params

PROMPT = """{passage}

Question: {question}
Answer:"""


def answer(model: Loaded, passage: str, question: str, max_tokens: int) -> tuple[str, float]:
    """The likeliest answer of one line, and the mean probability of its tokens."""
    prompt = PROMPT.format(passage=passage.strip(), question=question.strip())
    params = Params(max_tokens=max_tokens, stop=("\n",), logprobs=0)
    choice = model.engine.generate(model.request(prompt, params)).choices[0]
    mean = choice.logprob / len(choice.logprobs) if choice.logprobs else -math.inf
    return choice.text.strip(), math.exp(mean)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question about a passage.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("question")
    parser.add_argument("--passage", help="what the answer is to be found in; standard input")
    parser.add_argument("--max-tokens", type=int, default=40)
    parser.add_argument(
        "--sure", type=float, default=0.0, metavar="P", help="below this, say that it is not known"
    )
    args = parser.parse_args()
    passage = sys.stdin.read() if args.passage is None else args.passage
    with load(args.model, plugins=Plugins.load()) as model:
        text, probability = answer(model, passage, args.question, args.max_tokens)
    known = bool(text) and probability >= args.sure
    print(json.dumps({"answer": text if known else None, "probability": probability}))


if __name__ == "__main__":
    try:
        main()
    except (LlamaError, UnicodeError) as error:
        sys.exit(f"error: {error}")
