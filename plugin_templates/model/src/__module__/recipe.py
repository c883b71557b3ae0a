"""How the model is made: which byte follows which, as the weights of a Llama.

A token is a byte. Its embedding is one of `WIDTH` directions; the layer adds nothing; the norm
brings the direction to length one; and the last matrix has, for each direction, the logarithms of
how likely every byte is to follow. So the model's probabilities are those that were counted.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

BYTES = 256
END = "<|end|>"  # the token that ends an answer: here an empty line does
VOCABULARY = BYTES + 1
WIDTH = 264  # at least VOCABULARY
HEAD, INNER = 8, 8
SMALLEST = 0.01  # counts of what never followed: rare, and not impossible

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": 1,
    "num_attention_heads": 1,
    "num_key_value_heads": 1,
    "head_dim": HEAD,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    "eos_token_id": BYTES,
    "torch_dtype": "float32",
}


def write(package: Path) -> None:
    """Count in `corpus.txt`, and write the folder `model` beside it."""
    from safetensors.numpy import save_file

    text = (package / "corpus.txt").read_text("utf-8")
    folder = package / "model"
    folder.mkdir(exist_ok=True)
    save_file(weights(probabilities(text)), folder / "model.safetensors", {"format": "np"})
    (folder / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n", "utf-8")
    tokenizer(folder / "tokenizer.json")
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", "utf-8")


def probabilities(text: str) -> np.ndarray:
    """Row i, column j: how likely token j is to follow token i."""
    import numpy as np

    counts = np.full((VOCABULARY, VOCABULARY), SMALLEST)
    for paragraph in text.split("\n\n"):
        tokens = [*paragraph.strip().encode(), BYTES]
        np.add.at(counts, (tokens[:-1], tokens[1:]), 1)
    return counts / counts.sum(1, keepdims=True)


def weights(likely: np.ndarray) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint."""
    import numpy as np

    def zeros(*shape: int) -> np.ndarray:
        return np.zeros(shape, np.float32)

    layer = "model.layers.0"
    last = zeros(VOCABULARY, WIDTH)
    last[:, :VOCABULARY] = np.log(likely).T
    return {
        "model.embed_tokens.weight": np.eye(VOCABULARY, WIDTH, dtype=np.float32),
        f"{layer}.input_layernorm.weight": zeros(WIDTH),
        f"{layer}.self_attn.q_proj.weight": zeros(HEAD, WIDTH),
        f"{layer}.self_attn.k_proj.weight": zeros(HEAD, WIDTH),
        f"{layer}.self_attn.v_proj.weight": zeros(HEAD, WIDTH),
        f"{layer}.self_attn.o_proj.weight": zeros(WIDTH, HEAD),
        f"{layer}.post_attention_layernorm.weight": zeros(WIDTH),
        f"{layer}.mlp.gate_proj.weight": zeros(INNER, WIDTH),
        f"{layer}.mlp.up_proj.weight": zeros(INNER, WIDTH),
        f"{layer}.mlp.down_proj.weight": zeros(WIDTH, INNER),
        # A direction of length one has a mean square of 1 / WIDTH.
        "model.norm.weight": np.full(WIDTH, WIDTH**-0.5, np.float32),
        "lm_head.weight": last,
    }


def tokenizer(file: Path) -> None:
    """Every byte is a token: no merges."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = _letters()
    one = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    one.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    one.decoder = decoders.ByteLevel()
    one.add_special_tokens([AddedToken(END, special=True)])
    one.save(str(file))


def _letters() -> list[str]:
    """The letter that a byte-level tokenizer writes for each byte: itself where it is visible."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(BYTES, 2 * BYTES))
    return [chr(byte if byte in visible else next(others)) for byte in range(BYTES)]
