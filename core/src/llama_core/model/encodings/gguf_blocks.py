"""The bytes of GGUF's blocks, both ways: legacy types of 32 numbers, K types of 256.

For each type a pair of functions between blocks [n, bytes] and the affine view of n rows, one block
each. It knows nothing of tensors or files. Unpacking gives, bit for bit, what the `gguf` package's
`dequantize` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from llama_core.model.encodings.affine import Affine, Scheme
from llama_core.model.encodings.base import Array


def _lanes(bytes_nB: Array, width: int, bits: int) -> Array:
    """Split each run of `width` bytes into its lanes of `bits`, lowest first: codes [n, ·]."""
    n = bytes_nB.shape[0]
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:, None]
    runs = bytes_nB.reshape(n, bytes_nB.shape[1] // width, 1, width)
    return ((runs >> shifts) & np.uint8((1 << bits) - 1)).reshape(
        n, shifts.size * bytes_nB.shape[1]
    )


def _fold(codes_nK: Array, width: int, bits: int) -> Array:
    """The reverse of `_lanes`."""
    n = codes_nK.shape[0]
    lanes = codes_nK.reshape(n, codes_nK.shape[1] * bits // (8 * width), 8 // bits, width)
    out = np.zeros((n, lanes.shape[1], width), np.uint8)
    for lane in range(8 // bits):
        out |= lanes[:, :, lane] << np.uint8(lane * bits)
    return out.reshape(n, out.shape[1] * width)


def _half(bytes_n2: Array) -> Array:
    return np.ascontiguousarray(bytes_n2).view(np.float16)


def _raw(*arrays: Array | None) -> Array:
    """Columns of any type side by side, as bytes."""
    parts = [np.ascontiguousarray(a).view(np.uint8) for a in arrays if a is not None]
    return np.concatenate(parts, axis=1)


def _unpack_legacy(bits: int, minimum: bool) -> Callable[[Array], Affine]:
    def unpack(b: Array) -> Affine:
        at = 4 if minimum else 2
        scales, minimums = _half(b[:, :2]), _half(b[:, 2:4]) if minimum else None
        if bits == 8:
            codes = b[:, at:] ^ np.uint8(0x80)
        else:
            codes = _lanes(b[:, -16:], 16, 4)
        if bits == 5:
            high = np.unpackbits(np.ascontiguousarray(b[:, at : at + 4]), 1, bitorder="little")
            codes = codes | high << np.uint8(4)
        return Affine(bits, 32, codes, scales, minimums=minimums)

    return unpack


def _pack_legacy(view: Affine) -> Array:
    if view.bits == 8:
        return _raw(view.scales, view.codes ^ np.uint8(0x80))
    high = None
    if view.bits == 5:
        high = np.packbits(view.codes >> np.uint8(4), axis=1, bitorder="little")
    return _raw(view.scales, view.minimums, high, _fold(view.codes & np.uint8(15), 16, 4))


def _unpack_q2_k(b: Array) -> Affine:
    scales, codes = b[:, :16], _lanes(b[:, 16:80], 32, 2)
    d, dmin = _half(b[:, 80:82]), _half(b[:, 82:84])
    return Affine(2, 16, codes, scales & 15, None, scales >> 4, 16, d, -dmin)


def _pack_q2_k(v: Affine) -> Array:
    assert v.minimums is not None
    assert v.super_minimums is not None
    scales = v.scales | v.minimums << np.uint8(4)
    return _raw(scales, _fold(v.codes, 32, 2), v.super_scales, -v.super_minimums)


def _unpack_q3_k(b: Array) -> Affine:
    codes = _lanes(b[:, 32:96], 32, 2) | _lanes(b[:, :32], 32, 1) << np.uint8(2)
    small = _lanes(b[:, 96:104], 8, 4) | _lanes(b[:, 104:108], 4, 2) << np.uint8(4)
    scales = (small.astype(np.int16) - 32).astype(np.int8)
    return Affine(3, 16, codes, scales, per_super=16, super_scales=_half(b[:, 108:]))


def _pack_q3_k(v: Affine) -> Array:
    small = (v.scales.astype(np.int16) + 32).astype(np.uint8)
    low, high = _fold(small & np.uint8(15), 8, 4), _fold(small >> np.uint8(4), 4, 2)
    codes, mask = _fold(v.codes & np.uint8(3), 32, 2), _fold(v.codes >> np.uint8(2), 32, 1)
    return _raw(mask, codes, low, high, v.super_scales)


def _unpack_scale_min(b: Array) -> tuple[Array, Array]:
    """Eight pairs of six bits in twelve bytes."""
    low, mins, mixed = b[:, :4], b[:, 4:8], b[:, 8:12]
    scales = np.concatenate([low & 63, (mixed & 15) | ((low >> 2) & 48)], axis=1)
    minimums = np.concatenate([mins & 63, (mixed >> 4) | ((mins >> 2) & 48)], axis=1)
    return scales, minimums


def _pack_scale_min(scales: Array, minimums: Array) -> Array:
    first = scales[:, :4] | (scales[:, 4:] & 48) << 2
    second = minimums[:, :4] | (minimums[:, 4:] & 48) << 2
    return _raw(first, second, (scales[:, 4:] & 15) | (minimums[:, 4:] & 15) << 4)


def _unpack_q45_k(bits: int) -> Callable[[Array], Affine]:
    def unpack(b: Array) -> Affine:
        d, dmin = _half(b[:, :2]), _half(b[:, 2:4])
        scales, minimums = _unpack_scale_min(b[:, 4:16])
        codes = _lanes(b[:, -128:], 32, 4)
        if bits == 5:
            codes = codes | _lanes(b[:, 16:48], 32, 1) << np.uint8(4)
        return Affine(bits, 32, codes, scales, None, minimums, 8, d, -dmin)

    return unpack


def _pack_q45_k(v: Affine) -> Array:
    assert v.minimums is not None
    assert v.super_minimums is not None
    small = _pack_scale_min(v.scales, v.minimums)
    high = _fold(v.codes >> np.uint8(4), 32, 1) if v.bits == 5 else None
    low = _fold(v.codes & np.uint8(15), 32, 4)
    return _raw(v.super_scales, -v.super_minimums, small, high, low)


def _unpack_q6_k(b: Array) -> Affine:
    codes = _lanes(b[:, :128], 64, 4) | _lanes(b[:, 128:192], 32, 2) << np.uint8(4)
    scales = np.ascontiguousarray(b[:, 192:208]).view(np.int8)
    return Affine(6, 16, codes, scales, per_super=16, super_scales=_half(b[:, 208:]))


def _pack_q6_k(v: Affine) -> Array:
    low, high = _fold(v.codes & np.uint8(15), 64, 4), _fold(v.codes >> np.uint8(4), 32, 2)
    return _raw(low, high, v.scales.astype(np.int8), v.super_scales)


@dataclass(frozen=True, slots=True)
class Block:
    """One type: its size, how it is rounded to, and its two functions."""

    columns: int
    num_bytes: int
    scheme: Scheme
    unpack: Callable[[Array], Affine]
    pack: Callable[[Affine], Array]


def _legacy(bits: int, minimum: bool) -> Block:
    size = 2 + 2 * minimum + 4 * bits
    scheme = Scheme(bits, 32, "min" if minimum else "none")
    return Block(32, size, scheme, _unpack_legacy(bits, minimum), _pack_legacy)


def _scheme_k(bits: int, group: int, minimum: bool, least: int, most: int) -> Scheme:
    offset = "min" if minimum else "none"
    return Scheme(bits, group, offset, "float16", 256 // group, (least, most))  # type: ignore[arg-type]


BLOCKS = {
    "q4_0": _legacy(4, False),
    "q4_1": _legacy(4, True),
    "q5_0": _legacy(5, False),
    "q5_1": _legacy(5, True),
    "q8_0": _legacy(8, False),
    "q2_k": Block(256, 84, _scheme_k(2, 16, True, 0, 15), _unpack_q2_k, _pack_q2_k),
    "q3_k": Block(256, 110, _scheme_k(3, 16, False, -32, 31), _unpack_q3_k, _pack_q3_k),
    "q4_k": Block(256, 144, _scheme_k(4, 32, True, 0, 63), _unpack_q45_k(4), _pack_q45_k),
    "q5_k": Block(256, 176, _scheme_k(5, 32, True, 0, 63), _unpack_q45_k(5), _pack_q45_k),
    "q6_k": Block(256, 210, _scheme_k(6, 16, False, -128, 127), _unpack_q6_k, _pack_q6_k),
}
