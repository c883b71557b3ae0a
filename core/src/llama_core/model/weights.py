"""Weights: a lazy mapping from canonical names to tensors, and views of it.

A tensor is its shape, its encoding and its raw parts, memory-mapped where a file holds them, and
decodes on demand. Views rename, hide, replace or re-encode without touching what they look at.
This module knows nothing of files: formats make the mappings, everything else only reads them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from llama_core.errors import LlamaError, did_you_mean, sentence
from llama_core.model.encodings import Affine, Encoding, Plain, Table, parse_encoding
from llama_core.model.encodings.base import Array, EncodingError, FloatArray, Parts, Shape
from llama_core.model.origin import Origin


class UnknownTensor(LlamaError, KeyError):
    """No tensor has this name. Also a KeyError, so that `in` and `get` do what they should."""

    code = "tensor_unknown"
    __str__ = LlamaError.__str__


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """Encoded numbers. `decode()` gives them in float32; `parts` are the bytes as they lie."""

    shape: Shape
    encoding: Encoding
    parts: Parts = field(repr=False)

    def decode(self) -> FloatArray:
        """The numbers. A fresh array, except that `f32` may be a read-only view of the file."""
        if self.encoding.name == "f32":
            data = self.parts["data"].reshape(self.shape)
            return np.asarray(data, np.float32)
        return self.encoding.decode(self.parts, self.shape)

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        size = 1
        for length in self.shape:
            size *= length
        return size

    @property
    def num_bytes(self) -> int:
        """What it takes in memory or in the file, scales and all."""
        return sum(part.nbytes for part in self.parts.values())

    def view(self) -> Affine | Table | None:
        """Codes with their scales, where the encoding has them in rows; for kernels."""
        return self.encoding.view(self.parts, self.shape)

    def granularity(self, axis: int) -> int:
        """Where it may be cut along an axis: at multiples of this."""
        return self.encoding.granularity(self.shape, axis)

    def cut(self, axis: int, start: int, stop: int) -> Tensor:
        """x[start:stop] along one axis, in the same encoding, without decoding where possible."""
        axis %= len(self.shape)
        length = self.shape[axis]
        step = self.granularity(axis)
        if not 0 <= start <= stop <= length or start % step or (stop % step and stop != length):
            raise EncodingError(
                f"cannot cut [{start}:{stop}] of an axis of {length} in '{self.encoding}'",
                remedy=f"Cut at multiples of {step}, or re-encode first.",
            )
        if (start, stop) == (0, length):
            return self
        shape = (*self.shape[:axis], stop - start, *self.shape[axis + 1 :])
        parts = self.encoding.cut(self.parts, self.shape, axis, start, stop)
        return Tensor(shape, self.encoding, parts)

    def encoded(self, encoding: Encoding | str) -> Tensor:
        """The same numbers in another encoding, by its reference rounding."""
        if isinstance(encoding, str):
            encoding = parse_encoding(encoding)
        if encoding == self.encoding:
            return self
        return Tensor(self.shape, encoding, encoding.encode(self.decode()))


def tensor(x: Array) -> Tensor:
    """An array as it is: floats and integers in the plain encoding of their own type."""
    kind = _PLAIN.get(x.dtype.name)
    if kind is None:
        raise EncodingError(f"no encoding holds numbers of type {x.dtype.name}")
    return Tensor(x.shape, Plain(kind), {"data": x})


_PLAIN = {
    **{f"float{bits}": f"f{bits}" for bits in (16, 32, 64)},
    **{f"int{bits}": f"i{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"u{bits}" for bits in (8, 16, 32, 64)},
    "bool": "bool",
}


class About(NamedTuple):
    """What can be told of a tensor without its numbers."""

    shape: Shape
    encoding: Encoding


Choice = Callable[[str, About], Encoding | str | None]


class Weights(Mapping[str, Tensor]):
    """Names to tensors, lazily: looking one up reads no numbers.

    Names, `in`, `about` and `bytes_of` never compute one; a view passes them on to what it views.
    """

    @abstractmethod
    def names(self) -> Iterable[str]:
        """Every name, in a stable order."""

    @abstractmethod
    def find(self, name: str) -> Tensor | None:
        """The tensor, or None where there is none of this name."""

    def __getitem__(self, name: str) -> Tensor:
        found = self.find(name)
        if found is None:
            near = did_you_mean(name, self.names())
            raise UnknownTensor(f"no tensor is named '{name}'", remedy=sentence(near) or None)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return sum(1 for _ in self.names())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.find(name) is not None

    def about(self, name: str) -> About:
        """A tensor's shape and encoding; for a view that computes, without computing."""
        found = self[name]
        return About(found.shape, found.encoding)

    def bytes_of(self, name: str) -> int:
        """What a tensor takes as it lies; for a view that computes, as near as can be told."""
        return self[name].num_bytes

    def origin(self, name: str) -> Origin | None:
        """What a tensor's numbers are known by without reading them; None where nothing is."""
        return None

    def array(self, name: str) -> FloatArray:
        """One tensor's numbers."""
        return self[name].decode()

    @property
    def num_bytes(self) -> int:
        """All tensors together, as they lie."""
        return sum(self.bytes_of(name) for name in self.names())


class TensorWeights(Weights):
    """Tensors that are already at hand."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = dict(tensors)

    def names(self) -> Iterable[str]:
        return self._tensors

    def find(self, name: str) -> Tensor | None:
        return self._tensors.get(name)


class DenseWeights(TensorWeights):
    """Plain arrays in memory."""

    def __init__(self, arrays: Mapping[str, Array]) -> None:
        super().__init__({name: tensor(x) for name, x in arrays.items()})


class RenamedWeights(Weights):
    """Another mapping under other names. `rename` gives the new name of an old one, or None."""

    def __init__(self, base: Weights, rename: Callable[[str], str | None]) -> None:
        self._base = base
        self._old: dict[str, str] = {}
        for old in base:
            new = rename(old)
            if new is None:
                continue
            if not isinstance(new, str):
                raise TypeError(f"the new name of '{old}' is {new!r}, no text")
            if new in self._old:
                raise LlamaError(f"tensors '{self._old[new]}' and '{old}' are both '{new}'")
            self._old[new] = old

    def names(self) -> Iterable[str]:
        return self._old

    def old_name(self, name: str) -> str:
        """What a tensor was called before."""
        return self._old[name]

    def find(self, name: str) -> Tensor | None:
        old = self._old.get(name)
        return None if old is None else self._base.find(old)

    def __contains__(self, name: object) -> bool:
        return name in self._old

    def about(self, name: str) -> About:
        return self._base.about(self._old[name]) if name in self._old else super().about(name)

    def bytes_of(self, name: str) -> int:
        return self._base.bytes_of(self._old[name]) if name in self._old else super().bytes_of(name)

    def origin(self, name: str) -> Origin | None:
        return self._base.origin(self._old[name]) if name in self._old else None


class OverlayWeights(Weights):
    """Another mapping with some tensors replaced, added or hidden."""

    def __init__(self, base: Weights, over: Weights, hide: Iterable[str] = ()) -> None:
        self._base, self._over, self._hidden = base, over, frozenset(hide)

    def names(self) -> Iterable[str]:
        names = dict.fromkeys(name for name in self._base.names() if name not in self._hidden)
        return names | dict.fromkeys(self._over.names())

    def find(self, name: str) -> Tensor | None:
        found = self._over.find(name)
        if found is None and name not in self._hidden:
            found = self._base.find(name)
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._over or (name not in self._hidden and name in self._base)

    def about(self, name: str) -> About:
        where = self._where(name)
        return super().about(name) if where is None else where.about(name)

    def bytes_of(self, name: str) -> int:
        where = self._where(name)
        return super().bytes_of(name) if where is None else where.bytes_of(name)

    def origin(self, name: str) -> Origin | None:
        where = self._where(name)
        return None if where is None else where.origin(name)

    def _where(self, name: str) -> Weights | None:
        if name in self._over:
            return self._over
        return self._base if name in self else None


class MappedWeights(Weights):
    """Another mapping, each tensor passed through a function when it is asked for.

    `about` says what the function makes of shape and encoding; without it a tensor is computed to
    be described. `origin` says what it makes of an origin; without it none is told. The last few
    results are kept, since callers often ask twice in a row; not all of them, since the whole model
    may not fit in memory.
    """

    def __init__(
        self,
        base: Weights,
        change: Callable[[str, Tensor], Tensor],
        about: Callable[[str, About], About] | None = None,
        origin: Callable[[str, Origin], Origin] | None = None,
    ) -> None:
        self._base = base
        self._about = about
        self._origin = origin

        def found(name: str) -> Tensor | None:
            one = base.find(name)
            return None if one is None else change(name, one)

        self._found = lru_cache(maxsize=4)(found)

    def names(self) -> Iterable[str]:
        return self._base.names()

    def find(self, name: str) -> Tensor | None:
        return self._found(name)

    def __contains__(self, name: object) -> bool:
        return name in self._base

    def about(self, name: str) -> About:
        if self._about is None or name not in self._base:
            return super().about(name)
        return self._about(name, self._base.about(name))

    def bytes_of(self, name: str) -> int:
        if self._about is None or name not in self._base:
            return super().bytes_of(name)
        shape, encoding = self.about(name)
        if (shape, encoding) == self._base.about(name):
            return self._base.bytes_of(name)
        return bytes_in(encoding, shape)

    def origin(self, name: str) -> Origin | None:
        found = self._base.origin(name) if self._origin is not None else None
        return None if found is None or self._origin is None else self._origin(name, found)


@lru_cache(maxsize=256)
def bytes_in(encoding: Encoding, shape: Shape) -> int:
    """What a tensor would take in an encoding, told from as few of its rows as can be encoded."""
    if len(shape) < 2:
        return Tensor(shape, encoding, encoding.encode(np.zeros(shape, np.float32))).num_bytes
    rows = min(shape[-2], encoding.granularity(shape[-2:], 0))
    sample = encoding.encode(np.zeros((rows, shape[-1]), np.float32))
    many = 1
    for length in shape[:-1]:
        many *= length
    return sum(part.nbytes for part in sample.values()) * many // rows


def reencoded(weights: Weights, choose: Choice) -> Weights:
    """A lazy view in which each tensor has the encoding chosen for it; None leaves it as it is."""

    def about(name: str, one: About) -> About:
        encoding = choose(name, one)
        if encoding is None:
            return one
        return About(one.shape, parse_encoding(encoding) if isinstance(encoding, str) else encoding)

    def change(name: str, one: Tensor) -> Tensor:
        return one.encoded(about(name, About(one.shape, one.encoding)).encoding)

    def origin(name: str, one: Origin) -> Origin:
        now, made = weights.about(name).encoding, about(name, weights.about(name)).encoding
        return one if now == made else one.then(f"as {made}")

    return MappedWeights(weights, change, about, origin)
