"""Mutations that know a file's structure no better than a fuzzer should: cut, flip, splice, number.

Half of the inputs are built by a strategy that knows the format; the other half are whole files of
that strategy with a few bytes changed, which is where length fields meet data.
"""

from __future__ import annotations

import struct

from hypothesis import strategies as st

NUMBERS = [0, 1, 2, 3, 7, 8, 31, 32, 255, 256, 65535, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 60,
           (1 << 63) - 1, 1 << 63, (1 << 64) - 1]  # fmt: skip

Change = tuple[str, float, int]
changes = st.lists(
    st.tuples(
        st.sampled_from(["cut", "flip", "u32", "u64", "insert", "drop", "byte"]),
        st.floats(0, 1),
        st.sampled_from(NUMBERS) | st.integers(0, 255),
    ),
    max_size=4,
)


def mutated(data: bytes, what: list[Change]) -> bytes:
    """The data after some changes, each at a place given as a part of its length."""
    out = bytearray(data)
    for kind, place, number in what:
        at = int(place * len(out))
        if kind == "cut":
            del out[at:]
        elif kind == "flip" and at < len(out):
            out[at] ^= 1 << (number % 8)
        elif kind == "byte" and at < len(out):
            out[at] = number & 255
        elif kind == "u32":
            out[at : at + 4] = struct.pack("<I", number & 0xFFFFFFFF)
        elif kind == "u64":
            out[at : at + 8] = struct.pack("<Q", number & ((1 << 64) - 1))
        elif kind == "insert":
            out[at:at] = bytes(number % 64)
        elif kind == "drop":
            del out[at : at + number % 64]
    return bytes(out)
