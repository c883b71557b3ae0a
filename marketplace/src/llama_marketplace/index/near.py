"""Names for which another one might be taken: a letter added, lost, changed or swapped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import IO

from llama_marketplace.index.catalogue import BLOCK_BYTES


def near(file: IO[bytes], name: str) -> Iterator[bytes]:
    """The lines of a catalogue whose plugins have nearly this name.

    One slip leaves the first half of a name as it is, or the second: only lines with either are
    looked at.
    """
    half = len(name) // 2
    first, second = re.escape(name[:half]), re.escape(name[half + 1 :])
    letters = rf'[^"\n]{{0,{half + 2}}}'  # as many as then are left, and no more
    looks = re.compile(rf'"name":"({first}{letters}|{letters}{second})"'.encode())
    while block := file.read(BLOCK_BYTES):
        block += file.readline()
        for found in looks.finditer(block):
            if one_slip(name, found[1].decode("utf-8", "replace")):
                start, end = block.rfind(b"\n", 0, found.start()) + 1, found.end()
                yield block[start:end] + block[end:].partition(b"\n")[0]


def one_slip(one: str, other: str) -> bool:
    """Whether one letter, added, lost, changed or swapped with the next, makes one the other."""
    if one == other or abs(len(one) - len(other)) > 1:
        return False
    if len(one) == len(other):
        wrong = [i for i, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
        if len(wrong) == 2 and wrong[1] == wrong[0] + 1:
            return one[wrong[0]] == other[wrong[1]] and one[wrong[1]] == other[wrong[0]]
        return len(wrong) == 1
    short, long = sorted((one, other), key=len)
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))
