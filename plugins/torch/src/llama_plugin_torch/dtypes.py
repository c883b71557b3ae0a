"""The types to compute in and to remember in, by the names that options and plans use."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from llama_core.model.programs import check_kv_type

COMPUTE = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
NAMES = {dtype: name for name, dtype in COMPUTE.items()}


def compute_type(option: str, stored: Iterable[str], device: torch.device) -> torch.dtype:
    """What an option means for weights stored like this.

    `auto` never narrows: it is the type in which all matrices are stored, on an accelerator. A
    processor computes as fast in f32, or faster.
    """
    if option != "auto":
        return COMPUTE[option]
    kinds = set(stored)
    if device.type != "cpu" and len(kinds) == 1 and kinds <= set(COMPUTE):
        return COMPUTE[kinds.pop()]
    return torch.float32


def kv_type(name: str, compute: torch.dtype) -> str:
    """How keys and values are kept. What was computed in 16 bits is not kept in 32: it fits."""
    check_kv_type(name)
    return NAMES[compute] if name == "f32" else name
