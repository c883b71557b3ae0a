"""Origins: what a tensor's numbers are known by without reading them.

For who keeps something that was made of a tensor and wants it back next time, packed weights say:
equal origins are equal numbers. A file is known by its stamp, a part of it by a name, and every
view that changes numbers adds a step. What only ever was in memory has no origin.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """A file as it was when it was opened; writing to it changes its times, replacing it the rest.

    The time of change is there for tools that put the time of writing back to what it was.
    """

    path: str
    inode: int
    num_bytes: int
    modified_ns: int
    changed_ns: int


def stamp(path: Path, found: os.stat_result) -> Stamp:
    """The stamp of a file, under the path that links lead to."""
    return Stamp(
        os.path.realpath(path), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
    )


@dataclass(frozen=True, slots=True)
class Origin:
    """Files, and what of them was taken and done, step by step, in words that tell all apart."""

    files: tuple[Stamp, ...]
    steps: tuple[str, ...]

    def then(self, step: str) -> Origin:
        """One step further."""
        return Origin(self.files, (*self.steps, step))
