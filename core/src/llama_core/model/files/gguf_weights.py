"""The tensors of a GGUF model under Hugging Face's names, and as Hugging Face holds them.

llama.cpp's converter turns some numbers round: the rows of q and k are interleaved for its rope,
Gemma's norms have one added, experts are stacked. Here that is undone, row by row in the encoding
where it can be, so that one graph serves both formats. Files may be split into numbered parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.model.encodings import F32
from llama_core.model.encodings.base import Array, FloatArray
from llama_core.model.files.disk import GGUF_PART
from llama_core.model.files.faults import ModelFileError, quoted
from llama_core.model.files.gguf_config import FACTORS, to_config
from llama_core.model.files.gguf_header import GgufFile
from llama_core.model.files.gguf_names import Family, by_architecture, to_model
from llama_core.model.origin import Origin
from llama_core.model.weights import About, Tensor, Weights, tensor


class GgufModel:
    """All parts of a model: `metadata`, `config`, and `weights`."""

    def __init__(self, path: Path) -> None:
        self.files = _parts(path)
        self.metadata = self.files[0].metadata
        home = self._homes(path)
        arch = self.metadata.get("general.architecture")
        if not isinstance(arch, str):
            raise ModelFileError(path, ["'general.architecture' does not say what the model is"])
        count = self.metadata.get(f"{arch}.expert_count")
        has_experts = isinstance(count, int) and count > 0
        self.family = by_architecture(arch, has_experts=has_experts)
        if self.family.model_type == "llama" and "llama.attention.sliding_window" in self.metadata:
            self.family = next(f for f in _same(arch) if f.model_type == "mistral")
        factors = {
            name: home[name].tensor(name).decode().reshape(-1) for name in FACTORS if name in home
        }
        config, faults = to_config(self.metadata, self.family, home, factors)
        if faults:
            raise ModelFileError(path, faults)
        embedding = (
            home["token_embd.weight"].entries["token_embd.weight"]
            if ("token_embd.weight" in home)
            else None
        )
        if embedding is not None and len(embedding.shape) == 2:
            config["vocab_size"] = embedding.shape[0]
        self.config: dict[str, Any] = config
        self.weights = GgufWeights(path, home, self.family, config)

    def _homes(self, path: Path) -> dict[str, GgufFile]:
        home: dict[str, GgufFile] = {}
        faults = []
        for file in self.files:
            for name in file.entries:
                if name in home:
                    faults.append(f"tensor {quoted(name)} is in two parts of the model")
                home[name] = file
        if faults:
            raise ModelFileError(path, faults)
        return home


def _same(architecture: str) -> list[Family]:
    from llama_core.model.files.gguf_names import FAMILIES

    return [family for family in FAMILIES if family.architecture == architecture]


def _parts(path: Path) -> list[GgufFile]:
    first = GgufFile(path)
    count = first.metadata.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return [first]
    found = GGUF_PART.fullmatch(path.name)
    if found is None or int(found[3]) != count or count > 9999:
        raise ModelFileError(
            path, [f"it is one of {count} parts, but is not named like -00001-of-{count:05}.gguf"]
        )
    paths = [path.with_name(f"{found[1]}-{n:05}-of-{count:05}.gguf") for n in range(1, count + 1)]
    if missing := [f"{p.name} is missing" for p in paths if not p.is_file()]:
        raise ModelFileError(path, missing)
    return [first if p == path else GgufFile(p) for p in paths]


class GgufWeights(Weights):
    """Lazy: looking a tensor up reorders the rows of q and k at most, and reads nothing else."""

    def __init__(
        self, path: Path, home: Mapping[str, GgufFile], family: Family, config: Mapping[str, Any]
    ) -> None:
        self._home, self._family, self._config = home, family, config
        self._stored: dict[str, tuple[str, int | None]] = {}  # the stored name, and which expert
        faults = []
        for stored, file in home.items():
            name = to_model(stored, family)
            if name is None:
                continue
            if "{e}" not in name:
                self._stored[name] = (stored, None)
                continue
            shape = file.entries[stored].shape
            if len(shape) != 3:
                faults.append(f"tensor {quoted(stored)} is no stack of experts: {list(shape)}")
            elif shape[0] > 1 << 14:
                faults.append(f"tensor {quoted(stored)} stacks {shape[0]} experts")
            else:
                for expert in range(shape[0]):
                    self._stored[name.replace("{e}", str(expert))] = (stored, expert)
        if family.permuted:
            faults += self._rows_that_are_no_heads()
        if faults:
            raise ModelFileError(path, faults)

    def _rows_that_are_no_heads(self) -> list[str]:
        faults = []
        for name, (stored, _) in self._stored.items():
            heads = self._heads(name)
            shape = self._home[stored].entries[stored].shape
            if heads and (not shape or heads < 1 or shape[0] % (2 * heads)):
                faults.append(f"tensor {quoted(stored)} of {list(shape)} is not {heads} heads")
        return faults

    def names(self) -> Iterable[str]:
        return self._stored

    def find(self, name: str) -> Tensor | None:
        if name not in self._stored:
            return None
        stored, expert = self._stored[name]
        found = self._home[stored].tensor(stored)
        if expert is not None:
            parts = {part: data[expert] for part, data in found.parts.items()}
            return Tensor(found.shape[1:], found.encoding, parts)
        if heads := self._heads(name):
            return take_rows(found, unpermuted(found.shape[0], heads))
        if self._family.norms_plus_one and is_norm(name):
            return tensor(found.decode() - np.float32(1))
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def about(self, name: str) -> About:
        if name not in self._stored:
            return super().about(name)
        stored, expert = self._stored[name]
        entry = self._home[stored].entries[stored]
        is_made = self._family.norms_plus_one and is_norm(name)
        shape = entry.shape if expert is None else entry.shape[1:]
        return About(shape, F32 if is_made else entry.encoding)

    def bytes_of(self, name: str) -> int:
        if name not in self._stored:
            return super().bytes_of(name)
        stored, expert = self._stored[name]
        whole = self._home[stored].tensor(stored)
        return whole.num_bytes if expert is None else whole.num_bytes // whole.shape[0]

    def origin(self, name: str) -> Origin | None:
        if name not in self._stored:
            return None
        stored, expert = self._stored[name]
        found = Origin((self._home[stored].stamp,), (stored,))
        if expert is not None:
            return found.then(f"expert {expert}")
        if heads := self._heads(name):
            return found.then(f"{heads} heads in order")
        return found.then("less one") if self._family.norms_plus_one and is_norm(name) else found

    def _heads(self, name: str) -> int:
        """How many heads the rows of a tensor are interleaved for; 0 where they are not."""
        return interleaved_heads(name, self._family, self._config)


def interleaved_heads(name: str, family: Family, config: Mapping[str, Any]) -> int:
    """The heads of a projection that llama.cpp keeps interleaved."""
    if not family.permuted:
        return 0
    heads = config["num_attention_heads"]
    if ".self_attn.q_proj." in name:
        return int(heads)
    if ".self_attn.k_proj." in name:
        return int(config.get("num_key_value_heads") or heads)
    return 0


def is_norm(name: str) -> bool:
    """Whether a tensor is a norm's, by its name."""
    return name.endswith("norm.weight")


def permuted(rows: int, heads: int) -> Array:
    """Where each row of a file comes from: halves of a head, interleaved."""
    return np.arange(rows).reshape(heads, 2, -1).swapaxes(1, 2).reshape(-1)


def unpermuted(rows: int, heads: int) -> Array:
    """Where each row of the model comes from: the reverse."""
    return np.argsort(permuted(rows, heads))


def take_rows(one: Tensor, index: Array) -> Tensor:
    """Rows in another order; every part begins with the axis of rows."""
    return Tensor(one.shape, one.encoding, {n: part[index] for n, part in one.parts.items()})


def one_added(x: FloatArray) -> FloatArray:
    """Gemma's norms as the files hold them."""
    return np.asarray(x + np.float32(1), np.float32)
