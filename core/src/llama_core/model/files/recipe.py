"""A recipe says how one encoded tensor is put together from stored ones, and what we write of it.

Files that we write carry their recipes in the metadata; those of other tools follow from names and
a config, which `quantized` knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from llama_core.model.encodings import Encoding, EncodingError, parse_encoding
from llama_core.model.encodings.base import Array, Shape
from llama_core.model.files.faults import quoted
from llama_core.model.files.safetensors import Entry

OURS = "llama_core.encodings"  # the key in the metadata of files that we write


class Stored(Protocol):
    """What is read from: every stored tensor's entry, and its array on demand."""

    @property
    def entries(self) -> Mapping[str, Entry]: ...

    def stored(self, name: str) -> Array: ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one tensor is put together: the encoding, and the stored name of each part."""

    encoding: Encoding
    shape: Shape
    parts: Mapping[str, str]
    reshape: Mapping[str, Shape] | None = None
    offset: float | None = None  # bitsandbytes keeps one number in JSON

    def told(self) -> str:
        """All of it in words, such that recipes for other numbers say something else."""
        parts, reshape = dict(self.parts), dict(self.reshape or {})
        return f"{self.encoding} {self.shape} of {parts} {reshape} {self.offset}"


class NotReadable(Exception):
    """Why one tensor, or the whole checkpoint, cannot be read. Turned into the file's one error."""


def check(stored: Stored, recipe: Recipe) -> list[str]:
    return recipe.encoding.faults(assemble(stored, recipe), recipe.shape)


def assemble(stored: Stored, recipe: Recipe) -> dict[str, Array]:
    """The parts of a recipe, as views of the file where they need no reshaping."""
    parts = {part: stored.stored(name) for part, name in recipe.parts.items()}
    for part, shape in (recipe.reshape or {}).items():
        parts[part] = np.broadcast_to(parts[part].reshape(-1, 1), shape)
    if recipe.offset is not None:
        parts["offset"] = np.array([recipe.offset], np.float32)
    return parts


def ours(stored: Stored, described: Mapping[str, Any]) -> tuple[dict[str, Recipe], list[str]]:
    """The encoded tensors of files that we wrote, as their metadata describes them."""
    found: dict[str, Recipe] = {}
    faults = []
    for name, one in described.items():
        try:
            encoding = parse_encoding(str(one["encoding"]))
            shape = tuple(int(n) for n in one["shape"])
            parts = {str(p): str(s) for p, s in one["parts"].items()}
            if any(not 0 <= n < 1 << 48 for n in shape):
                raise NotReadable("its shape is out of range")
            found[name] = Recipe(encoding, shape, parts)
            faults += [f"tensor {quoted(name)}: {why}" for why in check(stored, found[name])]
        except KeyError as error:
            faults.append(f"tensor {quoted(name)}: {quoted(str(error.args[0]))} is missing")
        except (TypeError, ValueError, AttributeError, NotReadable, EncodingError) as error:
            faults.append(f"tensor {quoted(name)}: {error}")
    return found, faults
