"""What the ops compute, on torch: functions of tensors that know neither graph nor memory.

`NATIVE` makes of a node's attributes a function of its inputs and then its weights, in the order
of `roles`. Sums and functions that lose in 16 bits are computed in float32.

Legend: T rows, K inputs, N outputs, B blocks of a row, F pairs turned, E experts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from llama_core.model.numerics import in_blocks

Attrs = Mapping[str, Any]
Function = Callable[..., Tensor]

ACTIVATIONS: Mapping[str, Function] = {
    "silu": functional.silu,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "relu": functional.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}


def quantize_rows(x_TK: Tensor, block: int, most: int = 127) -> tuple[Tensor, Tensor]:
    """Codes -most..most and one scale per block of a row, by the reference's own operations."""
    width = x_TK.shape[1]
    padded = functional.pad(x_TK.float(), (0, -width % block))
    x_TBK = padded.unflatten(1, (-(-width // block), block))
    most_TB = x_TBK.abs().amax(-1)
    tiny = most_TB < 1e-36
    most_code = torch.full_like(most_TB, most)  # a scalar would be turned into its reciprocal
    inverse_TB = torch.where(tiny, 0, most_code / most_TB)
    scale_TB = torch.where(tiny, 0, most_TB / most_code)
    codes = torch.round(x_TBK * inverse_TB[..., None]).flatten(1)
    return codes[:, :width], scale_TB


def in_precision(x_TK: Tensor, act: str, scale: Tensor | None = None) -> Tensor:
    """The activations as `act` lets them through: rounded to its codes and back."""
    if act == "none":
        return x_TK
    if act == "static":
        assert scale is not None, "static activations come with their scale"
        step = scale.flatten()[0].float()
        return (torch.round(x_TK.float() / step).clamp(-127, 127) * step).to(x_TK.dtype)
    (block, most), width = in_blocks(act), x_TK.shape[1]
    codes_TK, scale_TB = quantize_rows(x_TK, block, most)
    return (codes_TK * scale_TB.repeat_interleave(block, 1)[:, :width]).to(x_TK.dtype)


def route(scores_TE: Tensor, top_k: int, normalize: bool) -> tuple[Tensor, Tensor]:
    """Each row's experts, the lower number first on a tie, and their shares."""
    shares_TE = torch.softmax(scores_TE.float(), -1)
    shares, chosen = torch.sort(shares_TE, dim=-1, descending=True, stable=True)
    shares, chosen = shares[:, :top_k], chosen[:, :top_k]
    return chosen, shares / shares.sum(-1, keepdim=True) if normalize else shares


# ---------------------------------------------------------------- functions of a node's attributes


def _rms_norm(a: Attrs, roles: Sequence[str]) -> Function:
    eps, offset = float(a["eps"]), float(a["offset"])

    def run(x: Tensor, weight: Tensor) -> Tensor:
        size = weight.shape[0]
        parts = x.float().unflatten(-1, (x.shape[-1] // size, size))
        scale = torch.sqrt(parts.square().mean(-1, keepdim=True) + eps)
        return (parts / scale * (weight + offset)).flatten(-2).to(x.dtype)

    return run


def _layer_norm(a: Attrs, roles: Sequence[str]) -> Function:
    eps = float(a["eps"])

    def run(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return functional.layer_norm(x.float(), weight.shape, weight, bias, eps).to(x.dtype)

    return run


def _linear(a: Attrs, roles: Sequence[str]) -> Function:
    act, names = a["act"], tuple(roles)

    def run(x: Tensor, *weights: Tensor) -> Tensor:
        w = dict(zip(names, weights, strict=True))
        x = in_precision(x, act, w.get("input_scale"))
        return functional.linear(x, w["weight"], w.get("bias"))

    return run


def _rope(a: Attrs, roles: Sequence[str]) -> Function:
    size = a["head_dim"]

    def run(x: Tensor, cos_TF: Tensor, sin_TF: Tensor) -> Tensor:
        x_THD = x.float().unflatten(-1, (x.shape[-1] // size, size))
        half = cos_TF.shape[-1]
        cos, sin = cos_TF[:, None, :], sin_TF[:, None, :]
        first, second = x_THD[..., :half], x_THD[..., half : 2 * half]
        turned = [first * cos - second * sin, second * cos + first * sin, x_THD[..., 2 * half :]]
        return torch.cat(turned, -1).flatten(-2).to(x.dtype)

    return run


def _mul(a: Attrs, roles: Sequence[str]) -> Function:
    by = float(a["by"])
    return lambda x, y=None: x * by if y is None else x * by * y


def _softcap(a: Attrs, roles: Sequence[str]) -> Function:
    cap = float(a["cap"])
    return lambda x: (torch.tanh(x.float() / cap) * cap).to(x.dtype)


def _slice(a: Attrs, roles: Sequence[str]) -> Function:
    start, stop = a["start"], a["stop"]
    return lambda x: x[:, start:stop]


def _glu(a: Attrs, roles: Sequence[str]) -> Function:
    activate = ACTIVATIONS[a["fn"]]
    return lambda gate, up: activate(gate) * up


NATIVE: Mapping[str, Callable[[Attrs, Sequence[str]], Function]] = {
    "rms_norm": _rms_norm,
    "layer_norm": _layer_norm,
    "linear": _linear,
    "rope": _rope,
    "activation": lambda a, roles: ACTIVATIONS[a["fn"]],
    "glu": _glu,
    "add": lambda a, roles: torch.add,
    "mul": _mul,
    "softcap": _softcap,
    "slice": _slice,
    "gather": lambda a, roles: lambda x, rows: x.index_select(0, rows),
}
