"""Core's rounding on torch: the numbers that an encoding would give back, wherever the weights lie.

Bit for bit what `decode(encode(w))` gives, of the encodings with one level of symmetric scales and
of `ternary`. Each operation stands in the order in which core's own does it, down to the order in
which means are summed.

Legend: N rows, K columns, G groups a row, g columns in a group.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llama_core.errors import LlamaError
from llama_core.model.encodings import Codebook, Encoding, Grouped

_SCALES = {"float16": torch.float16, "float32": torch.float32}


def refusal(encoding: Encoding) -> str | None:
    """Why weights cannot be trained for this encoding, or None where they can."""
    if isinstance(encoding, Codebook):
        return None if encoding.table == "ternary" else "its table is not ternary"
    if not isinstance(encoding, Grouped):
        return "it is of another program's layout"
    if encoding.offset != "none" or encoding.super_group or encoding.ordered:
        return "its scales have offsets, two levels or an order"
    return None


def as_stored(w_NK: Tensor, encoding: Encoding) -> Tensor:
    """The numbers after they were encoded and decoded, in float32."""
    assert isinstance(encoding, Grouped | Codebook)
    rows, columns = w_NK.shape
    group = encoding.group or columns
    rest = -columns % group
    x_NGg = w_NK.float()
    if isinstance(encoding, Codebook):
        padded = torch.nn.functional.pad(x_NGg, (0, rest)) if rest else x_NGg
        decoded = _ternary(padded.reshape(rows, -1, group))
    else:
        if rest:
            x_NGg = torch.cat((x_NGg, x_NGg[:, -1:].expand(rows, rest)), 1)
        decoded = _affine(x_NGg.reshape(rows, -1, group), encoding)
    return decoded.reshape(rows, -1)[:, :columns]


def _affine(x_NGg: Tensor, encoding: Grouped) -> Tensor:
    bits = encoding.bits
    if bits == 1:
        exact = 2 * _mean(x_NGg.abs())
    else:
        low, high = x_NGg.amin(-1).clamp(max=0), x_NGg.amax(-1).clamp(min=0)
        if bits == 8:
            exact = torch.maximum(high, -low) / 127
        else:  # the larger side takes the one code more, so a scale may be negative
            exact = torch.where(-low > high, low, high) / -(1 << (bits - 1))
    scale = _narrow(exact, encoding.scale_type)[..., None]
    inverse = torch.where(scale == 0, 0.0, 1 / scale)
    if bits == 1:
        return ((x_NGg * inverse >= 0).float() - 0.5) * scale
    middle = 1 << (bits - 1)
    codes = ((x_NGg * inverse).nan_to_num().round() + middle).clamp(0, (1 << bits) - 1)
    return (codes - middle) * scale


def _ternary(x_NGg: Tensor) -> Tensor:
    scale = _narrow(_mean(x_NGg.abs()), "float16")[..., None]
    y = torch.where(scale == 0, 0.0, x_NGg / scale)
    return ((y > 0.5).float() - (y <= -0.5).float()) * scale


def _narrow(exact: Tensor, kind: str) -> Tensor:
    stored = exact.to(_SCALES[kind]).float()
    if not bool(stored.isfinite().all()):
        raise LlamaError(
            "weights have grown so large that their scales are infinite, or are not numbers",
            remedy="Go back to the last checkpoint and train at a lower rate.",
        )
    return stored


def _mean(x: Tensor) -> Tensor:
    return _pairwise_sum(x) / x.shape[-1]


def _pairwise_sum(x: Tensor) -> Tensor:
    """Over the last axis, in NumPy's order: eight sums side by side in blocks of 128, then pairs.

    Floats that are summed in another order give other last bits, and sometimes another scale.
    """
    length = x.shape[-1]
    if length > 128:
        half = length // 2
        half -= half % 8
        return _pairwise_sum(x[..., :half]) + _pairwise_sum(x[..., half:])
    whole = length - length % 8
    if not whole:
        total = torch.zeros_like(x[..., 0])
    else:
        eight = x[..., :8]
        for start in range(8, whole, 8):
            eight = eight + x[..., start : start + 8]
        four = eight[..., ::2] + eight[..., 1::2]
        two = four[..., ::2] + four[..., 1::2]
        total = two[..., 0] + two[..., 1]
    for at in range(whole, length):
        total = total + x[..., at]
    return total
