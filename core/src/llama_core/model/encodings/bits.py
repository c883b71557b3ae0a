"""Codes of 1 to 8 bits as a stream: code i of a row lies in bits [i·b, (i+1)·b) of its bytes,
lowest bit first. Knows nothing of what the codes mean."""

from __future__ import annotations

import numpy as np

from llama_core.model.encodings.base import Array


def packed_bytes(columns: int, bits: int) -> int:
    """The bytes of one row."""
    return (columns * bits + 7) // 8


def pack(codes_NK: Array, bits: int) -> Array:
    """uint8 codes [N, K] to bytes [N, ceil(K·bits/8)]."""
    rows, columns = codes_NK.shape
    codes_NK = np.ascontiguousarray(codes_NK, np.uint8)
    if bits == 8:
        return codes_NK
    per_byte = 8 // bits
    if 8 % bits == 0 and columns % per_byte == 0:
        lanes = codes_NK.reshape(rows, columns // per_byte, per_byte)
        out = lanes[..., 0].copy()
        for lane in range(1, per_byte):
            out |= lanes[..., lane] << np.uint8(lane * bits)
        return out
    stream = np.unpackbits(codes_NK[..., None], axis=-1, count=bits, bitorder="little")
    return np.packbits(stream.reshape(rows, columns * bits), axis=-1, bitorder="little")


def unpack(bytes_NB: Array, bits: int, columns: int) -> Array:
    """Bytes [N, ceil(K·bits/8)] to uint8 codes [N, K]."""
    rows = bytes_NB.shape[0]
    if bits == 8:
        return bytes_NB
    if 8 % bits == 0:
        return _spread(bytes_NB, bits).reshape(rows, bytes_NB.shape[1] * (8 // bits))[:, :columns]
    stream = np.unpackbits(
        np.ascontiguousarray(bytes_NB), axis=-1, count=columns * bits, bitorder="little"
    )
    codes = np.packbits(stream.reshape(rows, columns, bits), axis=-1, bitorder="little")
    return codes[..., 0]


def _spread(bytes_NB: Array, bits: int) -> Array:
    """Each byte as a word with one code a byte: several times as fast as lane by lane. Shifted by
    8 - bits once for every code before it, a code lies in a byte of its own."""
    per_byte = 8 // bits
    words = bytes_NB.astype(f"<u{per_byte}", order="C")
    shifted = words.copy()
    for _ in range(1, per_byte):
        shifted <<= 8 - bits
        words |= shifted
    words &= int.from_bytes(bytes([(1 << bits) - 1]) * per_byte, "little")
    return words.view(np.uint8)
