"""Rows of architectures as GGUF files: what core writes, llama.cpp runs as transformers runs it.

A rule of the format that core's writer and reader both get wrong (rows not interleaved, a norm
without its one) is undone in a round trip, and would be seen by nobody but llama.cpp.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from parity_backends import built, logits, make, named, opened
from parity_cases import LINEAR, LLAMA3, YARN, Case, longrope
from parity_encodings import TINY
from parity_files import apart, llama_cpp_says
from parity_truth import transformers_says
from report import Row

BOUND = 1e-3
BOUND_GELU = 1e-2  # llama.cpp looks gelu up in a table of f16
CONFIG: Mapping[str, Any] = {
    "vocab_size": 512,  # as many tokens as the small model's tokenizer, which the file needs
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 7,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "rms_norm_eps": 0.03,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": None,
}
GEMMA = {"tie_word_embeddings": True, "head_dim": 20}
# By name: the architecture, and what is said of it that GGUF has words for.
MODELS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "gemma": ("gemma", GEMMA),
    "gemma2": ("gemma2", {**GEMMA, "sliding_window": 9, "query_pre_attn_scalar": 20}),
    "gemma3_text": (
        "gemma3_text",
        {**GEMMA, "sliding_window": 9, "query_pre_attn_scalar": 20, "rope_theta": 1e6},
    ),
    "gemma3_text-linear": (
        "gemma3_text",
        {**GEMMA, "sliding_window": 9, "query_pre_attn_scalar": 20, "rope_theta": 1e6,
         "rope_local_base_freq": 1e3, "rope_scaling": LINEAR},
    ),
    "granite": (
        "granite",
        {"embedding_multiplier": 6.0, "attention_multiplier": 0.2, "residual_multiplier": 0.4,
         "logits_scaling": 1.5},
    ),
    "llama": ("llama", {"rope_theta": 5e5}),
    "llama-tied": ("llama", {"tie_word_embeddings": True}),
    "llama-bias": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama-wide": ("llama", {"head_dim": 22, "num_key_value_heads": 1}),
    "llama-linear": ("llama", {"rope_scaling": LINEAR}),
    "llama-llama3": ("llama", {"rope_scaling": LLAMA3}),
    "llama-yarn": ("llama", {"rope_scaling": YARN}),
    "llama-yarn-factor": ("llama", {"rope_scaling": {**YARN, "attention_factor": 1.3}}),
    "llama-yarn-mscale": (
        "llama",
        {"rope_scaling": {**YARN, "mscale": 0.8, "mscale_all_dim": 0.4}},
    ),
    "mistral": ("mistral", {"head_dim": 20, "sliding_window": None}),
    "mixtral": ("mixtral", {"num_local_experts": 6, "num_experts_per_tok": 2}),
    "olmo2": ("olmo2", {"rope_theta": 5e5}),
    "phi3": ("phi3", {"sliding_window": None}),
    "phi3-part": ("phi3", {"partial_rotary_factor": 0.5, "sliding_window": None}),
    "phi3-longrope": (
        "phi3",
        {"rope_scaling": longrope(8), "original_max_position_embeddings": 32,
         "sliding_window": None},
    ),
    "qwen2": ("qwen2", {"rope_theta": 1e6}),
    "qwen3": ("qwen3", {"head_dim": 20}),
    "qwen3_moe": (
        "qwen3_moe",
        {"head_dim": 20, "num_experts": 6, "num_experts_per_tok": 3, "moe_intermediate_size": 34,
         "norm_topk_prob": True},
    ),
}  # fmt: skip
CASE = Case("gguf", prompt=100, steps=0)


def rows(backends: Sequence[str]) -> Iterator[Row]:
    """Each model: ours from the file against llama.cpp, and both against transformers."""
    for label, (architecture, more) in MODELS.items():
        with tempfile.TemporaryDirectory() as temporary:
            yield from of_model(label, {"model_type": architecture, **CONFIG, **more},
                                Path(temporary), backends)  # fmt: skip


def of_model(
    label: str, config: dict[str, Any], folder: Path, backends: Sequence[str]
) -> Iterator[Row]:
    from llama_core.builtin.gguf_format import GgufFormat

    truth = transformers_says(config, CASE, 0, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(TINY / name, folder)
    path = folder / f"{label}.gguf"
    GgufFormat().save(opened(folder), path)
    said = llama_cpp_says(folder, {}, [path], truth.tokens)
    files = opened(path)
    graph, weights = built(files.config), named(files)
    bound = BOUND_GELU if label.startswith("gemma") else BOUND
    for name in backends:
        metric = f"parity.gguf.architecture.{label}.{name}"
        found = logits(make(name), graph, weights, truth.tokens)
        note = f"logits spread {truth.logits_TV.std():.1f}; from transformers ours is"
        note += f" {apart(found, truth.logits_TV):.2g} off"
        if isinstance(said, str):
            yield Row(metric, None, "logit", note=f"not measured: llama.cpp: {said}; {note}")
            continue
        its = said[label]["logits"]
        note += f", llama.cpp's {apart(its, truth.logits_TV):.2g}"
        worst = apart(found, its)
        holds = worst <= bound and apart(found, truth.logits_TV) <= BOUND
        yield Row(metric, worst, "logit", goal=f"<={bound:g}", holds=holds, note=note)
