"""Weights brought to the device, each name once, in the type its node computes in.

What is stored in a float type is taken as it lies; any other encoding is decoded, and that is
announced, since it takes more memory than the file says.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod

import numpy as np
import torch

from llama_core.announce import Announcements
from llama_core.model.graph import Graph
from llama_core.model.weights import Tensor as Encoded
from llama_core.model.weights import Weights
from llama_plugin_torch.dtypes import COMPUTE, NAMES

# Of these a few numbers weigh on every row: they stay in float32 whatever the rest is in.
WIDE_OPS = ("rms_norm", "layer_norm")
WIDE_ROLES = ("input_scale",)


def matrices(graph: Graph, weights: Weights) -> list[str]:
    """How the large weights are stored."""
    return [weights.about(name).encoding.name for name, s in graph.shapes.items() if len(s) > 1]


def load(
    graph: Graph,
    weights: Weights,
    dtype: torch.dtype,
    device: torch.device,
    announcements: Announcements,
) -> dict[str, torch.Tensor]:
    """Every weight that a node names."""
    _announce(graph, weights, dtype, announcements)
    found: dict[str, torch.Tensor] = {}
    for node in graph.nodes:
        for role, name in node.weights.items():
            if name not in found:
                wide = node.op in WIDE_OPS or role in WIDE_ROLES
                x = as_tensor(weights[name])
                found[name] = x.to(device, torch.float32 if wide else dtype)
    return found


def as_tensor(encoded: Encoded) -> torch.Tensor:
    """The numbers in memory of our own: a file may change, or go, under a mapping."""
    kind = encoded.encoding.name
    if kind not in COMPUTE:
        return torch.from_numpy(np.array(encoded.decode()))
    data = np.array(encoded.parts["data"]).reshape(encoded.shape)
    if kind == "bf16":  # lies as unsigned integers, which torch takes for what it is told
        return torch.from_numpy(data.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(data)


def _announce(
    graph: Graph, weights: Weights, dtype: torch.dtype, announcements: Announcements
) -> None:
    used = {name for node in graph.nodes for name in node.weights.values()}
    about = {name: weights.about(name) for name in used}
    decoded = [n for n, one in about.items() if one.encoding.name not in (*COMPUTE, "f64")]
    if decoded:
        kinds: Mapping[str, int] = Counter(about[name].encoding.name for name in decoded)
        told = ", ".join(f"{count} in {kind}" for kind, count in sorted(kinds.items()))
        before = sum(weights.bytes_of(name) for name in decoded)
        after = sum(prod(about[name].shape) for name in decoded) * dtype.itemsize
        announcements.fallback(
            f"backend 'torch' does not compute on encoded weights and decodes them ({told}) to "
            f"{NAMES[dtype]}: {_size(before)} become {_size(after)}",
            remedy="A backend that computes on the encoding itself needs less memory.",
        )


def _size(num_bytes: int) -> str:
    unit, name = (1 << 30, "GiB") if num_bytes >= 1 << 29 else (1 << 20, "MiB")
    return f"{num_bytes / unit:.1f} {name}"
