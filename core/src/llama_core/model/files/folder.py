"""A Hugging Face folder: which safetensors files hold the weights, and all tensors in them.

It knows shards and their index, and puts encoded tensors together by their recipes. The config is
data: a model's `auto_map` names code, and code from a model's folder is never imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from llama_core.model.encodings.base import Array
from llama_core.model.files.faults import ModelFileError, quoted
from llama_core.model.files.jsontext import parse_object, read_object
from llama_core.model.files.quantized import is_activation_scale, recipes
from llama_core.model.files.recipe import OURS, Recipe, assemble, ours
from llama_core.model.files.safetensors import Entry, SafetensorsFile
from llama_core.model.origin import Origin
from llama_core.model.weights import About, Tensor, Weights

INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_PICKLED = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt")
_CONVERT = (
    'python -c "from transformers import AutoModelForCausalLM as M; '
    "M.from_pretrained('{path}').save_pretrained('{path}-safetensors')\""
)


def refuse_pickled(path: Path) -> None:
    """Raise where a path is, or a folder only holds, weights that run code when they are read."""
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir())
        pickled = [name for name in names if name.endswith(_PICKLED) and "training" not in name]
        if not pickled or any(name.endswith(".safetensors") for name in names):
            return
        what, folder = f"only {pickled[0]}", path
    elif path.suffix in _PICKLED:
        what, folder = path.name, path.parent
    else:
        return
    raise ModelFileError(
        path,
        [f"it holds {what}, a pickle: reading it would run whatever code it contains"],
        remedy=f"If you trust its source, convert it once: {_CONVERT.format(path=folder)}",
    )


def weight_files(folder: Path) -> tuple[list[Path], dict[str, str] | None]:
    """The files to open, and from the index which of them holds each tensor."""
    index = folder / INDEX
    if index.is_file():
        placed = _placed(index)
        return [folder / name for name in dict.fromkeys(placed.values())], placed
    single = folder / "model.safetensors"
    if single.is_file():
        return [single], None
    found = sorted(folder.glob("*.safetensors"))
    shards = [match for path in found if (match := _SHARD.fullmatch(path.name))]
    if shards:
        stem, total = shards[0][1], int(shards[0][3])
        have = {int(match[2]) for match in shards if match[1] == stem}
        if missing := sorted(set(range(1, min(total, 9999) + 1)) - have):
            lacking = [f"{stem}-{n:05}-of-{total:05}.safetensors is missing" for n in missing]
            raise ModelFileError(folder, lacking)
        return [folder / match[0] for match in shards if match[1] == stem], None
    if len(found) == 1:
        return found, None
    refuse_pickled(folder)
    names = ", ".join(path.name for path in found)
    why = f"several safetensors files and no {INDEX}: {names}" if found else "no safetensors files"
    raise ModelFileError(folder, [why])


def _placed(index: Path) -> dict[str, str]:
    placed = read_object(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelFileError(index, ["it has no 'weight_map'"])
    faults = [
        f"tensor {quoted(tensor)} is said to lie in {quoted(str(file))}, not a file of this folder"
        for tensor, file in placed.items()
        if not isinstance(file, str)
        or not file.endswith(".safetensors")
        or Path(file).name != file
        or "\\" in file
        or "\0" in file
    ]
    if faults:
        raise ModelFileError(index, faults)
    return placed


class FolderWeights(Weights):
    """All tensors of a folder. Opening checks every file and every recipe, and reads no numbers."""

    def __init__(self, folder: Path, quantization: Mapping[str, Any]) -> None:
        paths, placed = weight_files(folder)
        faults: list[str] = []
        self._files: dict[str, SafetensorsFile] = {}
        for path in paths:
            try:
                self._files[path.name] = SafetensorsFile(path)
            except ModelFileError as error:
                faults += [f"{path.name}: {fault}" for fault in error.faults]
        if faults:
            raise ModelFileError(folder, faults)
        self._home, faults = self._homes(placed)
        self.entries: dict[str, Entry] = {
            name: file.entries[name] for name, file in self._home.items()
        }
        self._recipes, more = self._read_recipes(quantization)
        if faults or more:
            raise ModelFileError(folder, [*faults, *more])
        hidden = {part for one in self._recipes.values() for part in one.parts.values()}
        bases = {name.removesuffix(".weight") for name in self._recipes}
        plain = [
            name
            for name in self.entries
            if name not in hidden and not is_activation_scale(name) and not _belongs(name, bases)
        ]
        self._names = dict.fromkeys([*plain, *self._recipes])

    def _homes(self, placed: dict[str, str] | None) -> tuple[dict[str, SafetensorsFile], list[str]]:
        home: dict[str, SafetensorsFile] = {}
        faults = []
        if placed is not None:
            for name, where in placed.items():
                if name in self._files[where].entries:
                    home[name] = self._files[where]
                else:
                    faults.append(
                        f"{where} lacks tensor {quoted(name)}, which the index puts there"
                    )
            return home, faults
        for file in self._files.values():
            for name in file.entries:
                if name in home:
                    faults.append(
                        f"tensor {quoted(name)} is in {home[name].path.name} and {file.path.name}"
                    )
                home[name] = file
        return home, faults

    def _read_recipes(self, quantization: Mapping[str, Any]) -> tuple[dict[str, Recipe], list[str]]:
        found, faults = recipes(self, quantization)
        for file in self._files.values():
            if text := file.metadata.get(OURS):
                described = parse_object(text.encode(), file.path)
                mine, more = ours(self, described)
                found |= mine
                faults += more
        return found, faults

    def stored(self, name: str) -> Array:
        """A stored tensor by its stored name, as it lies."""
        return self._home[name].array(name)

    def names(self) -> Iterable[str]:
        return self._names

    def find(self, name: str) -> Tensor | None:
        if recipe := self._recipes.get(name):
            return Tensor(recipe.shape, recipe.encoding, assemble(self, recipe))
        return self._home[name].tensor(name) if name in self._names else None

    def __contains__(self, name: object) -> bool:
        return name in self._names

    def about(self, name: str) -> About:
        if recipe := self._recipes.get(name):
            return About(recipe.shape, recipe.encoding)
        return super().about(name)

    def origin(self, name: str) -> Origin | None:
        if recipe := self._recipes.get(name):
            files = dict.fromkeys(self._home[part].stamp for part in recipe.parts.values())
            return Origin(tuple(files), (recipe.told(),))
        return Origin((self._home[name].stamp,), (name,)) if name in self._names else None


_LEFT_OVER = {
    "g_idx", "weight_g_idx", "weight_shape", "weight_zero_point", "weight_format", "qzeros",
}  # fmt: skip


def _belongs(name: str, bases: set[str]) -> bool:
    """Whether a stored tensor is one more part of an encoded one, which its recipe did not need."""
    base, _, tail = name.rpartition(".")
    if tail.startswith("bitsandbytes__"):
        base = base.removesuffix(".weight.quant_state")
        return base in bases
    return tail in _LEFT_OVER and base in bases
