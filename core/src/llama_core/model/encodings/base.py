"""What an encoding is: how the numbers of a tensor lie in bytes, there and back.

An encoding is a small frozen value with a readable name. It knows its parts (named arrays), how to
write and read them in plain NumPy, and where a tensor may be cut. It knows nothing of files, and
nothing of kernels: the decode here is the definition they are measured against.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llama_core.errors import LlamaError, did_you_mean, sentence

if TYPE_CHECKING:
    from llama_core.model.encodings.affine import Affine
    from llama_core.model.encodings.codebook import Table

Array = NDArray[Any]
FloatArray = NDArray[np.float32]
Parts = Mapping[str, Array]
Shape = tuple[int, ...]


class EncodingError(LlamaError):
    """A tensor cannot be held in an encoding, or its parts do not fit together."""

    code = "encoding_invalid"


class Encoding(ABC):
    """How numbers lie in bytes. Subclasses are frozen dataclasses, so equal ones are one."""

    __slots__ = ()

    @property
    @abstractmethod
    def name(self) -> str:
        """Readable, and enough for `parse_encoding` to build the encoding again."""

    @abstractmethod
    def encode(self, x: Array) -> dict[str, Array]:
        """The parts nearest to x by plain rounding: a reference, not a quantizer."""

    @abstractmethod
    def decode(self, parts: Parts, shape: Shape) -> FloatArray:
        """The numbers, in float32."""

    def view(self, parts: Parts, shape: Shape) -> Affine | Table | None:
        """The numbers as codes and scales that a kernel can compute on, whatever their layout.

        None where there are no such codes, or none that stay within a row: then `decode` them.
        """
        return None

    @abstractmethod
    def granularity(self, shape: Shape, axis: int) -> int:
        """Cuts along the axis must fall on multiples of this; the axis' length where none may."""

    @abstractmethod
    def cut(self, parts: Parts, shape: Shape, axis: int, start: int, stop: int) -> dict[str, Array]:
        """The parts of x[start:stop] along one axis; both ends are multiples of the granularity."""

    @abstractmethod
    def faults(self, parts: Parts, shape: Shape) -> list[str]:
        """What keeps the parts from being decoded to this shape; empty where nothing does."""

    def __str__(self) -> str:
        return self.name


def rows_and_columns(shape: Shape) -> tuple[int, int]:
    """A tensor seen as rows of inputs: every axis but the last is rows."""
    if not shape:
        return 1, 1
    rows = 1
    for size in shape[:-1]:
        rows *= size
    return rows, shape[-1]


def part_faults(parts: Parts, expected: Mapping[str, tuple[tuple[str, ...], Shape]]) -> list[str]:
    """Compare parts with the dtype names allowed and the shape each must have."""
    faults = [f"part '{name}' is missing" for name in expected if name not in parts]
    for name, (dtypes, shape) in expected.items():
        if name not in parts:
            continue
        part = parts[name]
        if part.dtype.name not in dtypes:
            faults.append(f"part '{name}' is {part.dtype.name}, not {' or '.join(dtypes)}")
        if part.shape != shape:
            faults.append(f"part '{name}' has shape {list(part.shape)}, not {list(shape)}")
    return faults


# Names -------------------------------------------------------------------------------------------

_PARSERS: list[Callable[[str], Encoding | None]] = []
_KNOWN: list[str] = []


def register_parser(parser: Callable[[str], Encoding | None], *examples: str) -> None:
    """Teach `parse_encoding` a family of names; it answers None for a name that is not its own."""
    _PARSERS.append(parser)
    _KNOWN.extend(examples)


def parse_encoding(name: str) -> Encoding:
    """The encoding of a readable name such as `bf16`, `q4:g32:min` or `gguf:q4_k`."""
    for parser in _PARSERS:
        if (found := parser(name)) is not None:
            return found
    near = did_you_mean(name, _KNOWN)
    raise EncodingError(
        f"there is no encoding named '{name}'",
        remedy=sentence(near) if near else f"Known: {', '.join(_KNOWN)}.",
    )


def known_encodings() -> tuple[str, ...]:
    """Names that parse; for families with numbers in the name, one example of each."""
    return tuple(_KNOWN)
