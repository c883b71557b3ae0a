"""Writes down what transformers says: `python tests/compare.py`, with torch and transformers."""

import json
from pathlib import Path

import torch
import transformers
from llama_plugin_starcoder2 import Starcoder2
from test_starcoder2 import CONFIG, TOKENS, checkpoint

one = Starcoder2()
arrays = checkpoint(one.build(CONFIG), one.rename)
model = transformers.Starcoder2ForCausalLM(
    transformers.Starcoder2Config(**CONFIG, bos_token_id=None, eos_token_id=None)
).eval()
lacking, extra = model.load_state_dict(
    {name: torch.from_numpy(array) for name, array in arrays.items()}, strict=False
)
assert (lacking, extra) == (["lm_head.weight"], [])  # the head is the embedding
model.tie_weights()
with torch.inference_mode():
    logits = model(torch.tensor([TOKENS])).logits[0]
said = {
    "transformers": transformers.__version__,
    "tokens": TOKENS,
    "logits": [[round(x, 6) for x in row] for row in logits.tolist()],
}
path = Path(__file__).with_name("transformers_says.json")
path.write_text(json.dumps(said, separators=(",", ":")) + "\n")
print(f"{path.name}: {len(TOKENS)} rows, spread {logits.std():.2f}")
