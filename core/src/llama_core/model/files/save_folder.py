"""Writing a Hugging Face folder: config, tokenizer, templates, and the weights in shards.

Encoded tensors keep their encoding. Where the config says a tool that other programs read too, the
parts carry that tool's names; otherwise the metadata describes them, for us, and that is said. The
folder appears whole or not at all.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError
from llama_core.model.encodings import Awq, Bnb4, BnbInt8, Compressed, Encoding, Gptq, Plain
from llama_core.model.encodings.base import Array
from llama_core.model.files.folder import INDEX
from llama_core.model.files.recipe import OURS
from llama_core.model.files.safetensors import write
from llama_core.model.weights import Tensor, tensor

SHARD_BYTES = 2 << 30  # also what re-encoded tensors take in memory until a shard is written


def save_folder(
    files: ModelFiles,
    path: Path,
    announcements: Announcements | None = None,
    *,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write a new folder."""
    with new_place(path) as part:
        part.mkdir()
        native, ours = _save_weights(files, part, shard_bytes)
        if ours:
            told = ", ".join(f"{n} tensors in '{name}'" for name, n in sorted(ours.items()))
            (announcements or Announcements()).note(
                f"{path} holds {told} as only this program reads them",
                remedy="For other programs write GGUF, or an encoding of theirs such as gptq.",
            )
        config = {k: v for k, v in files.config.items() if native or k != "quantization_config"}
        _save_json(part / "config.json", config)
        if files.generation:
            _save_json(part / "generation_config.json", files.generation)
        _save_tokenizer(files, part)


class new_place:  # noqa: N801  (a context manager reads as a verb)
    """A path beside the one wanted, renamed to it when all went well and removed otherwise."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Path:
        if self.path.exists():
            raise LlamaError(f"{self.path} is already there", remedy="Choose a new place.")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._beside = Path(tempfile.mkdtemp(prefix=".saving-", dir=self.path.parent))
        except OSError as error:
            raise LlamaError(f"cannot write {self.path}: {error.strerror}") from error
        return self._beside / self.path.name

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        try:
            if kind is None:
                os.rename(self._beside / self.path.name, self.path)
        finally:
            shutil.rmtree(self._beside, ignore_errors=True)
        if isinstance(error, OSError):
            raise LlamaError(f"cannot write {self.path}: {error.strerror}") from error


def _save_weights(files: ModelFiles, folder: Path, shard_bytes: int) -> tuple[bool, Counter[str]]:
    """Write the shards; whether any tensor carries the names that the config's tool gives it.

    And how many, by encoding, are described by the metadata alone.
    """
    quantization = files.config.get("quantization_config")
    method = quantization.get("quant_method") if isinstance(quantization, Mapping) else None
    pending: dict[str, Tensor] = {}
    described: dict[str, Any] = {}
    shards: list[list[str]] = []
    native, total, held = False, 0, 0
    ours: Counter[str] = Counter()

    def flush() -> None:
        metadata = {"format": "pt"}
        if described:
            metadata[OURS] = json.dumps(described, separators=(",", ":"))
        write(folder / f"{len(shards):05}.part", pending, metadata)
        shards.append(list(pending))
        pending.clear()
        described.clear()

    for name in files.weights:
        one = files.weights[name]
        if pending and held + one.num_bytes > shard_bytes:
            flush()
            held = 0
        if isinstance(one.encoding, Plain):
            pending[name] = one
        else:
            own, stored = _stored(name, one, method)
            native |= own
            pending |= {part: value for part, (_, value) in stored.items()}
            if not own:
                parts = {role: part for part, (role, _) in stored.items()}
                about = {"encoding": one.encoding.name, "shape": one.shape, "parts": parts}
                described[name] = about
                ours[one.encoding.name] += 1
        held += one.num_bytes
        total += one.num_bytes
    flush()
    _name_shards(folder, shards, total)
    return native, ours


def _name_shards(folder: Path, shards: list[list[str]], total: int) -> None:
    if len(shards) == 1:
        (folder / "00000.part").rename(folder / "model.safetensors")
        return
    placed: dict[str, str] = {}
    for number, names in enumerate(shards):
        file = f"model-{number + 1:05}-of-{len(shards):05}.safetensors"
        (folder / f"{number:05}.part").rename(folder / file)
        placed |= dict.fromkeys(names, file)
    _save_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": placed})


def _stored(
    name: str, one: Tensor, method: str | None
) -> tuple[bool, dict[str, tuple[str, Tensor]]]:
    """Stored names with the part each is, and whether the names are those of the config's tool."""
    family = _NATIVE.get(type(one.encoding))
    if family is not None and family[0] == method and name.endswith(".weight"):
        named = family[1](name.removesuffix(".weight"), one)
        return True, {stored: ("", _plain(part)) for stored, part in named.items()}
    return False, {f"{name}.{p}": (p, _plain(part)) for p, part in one.parts.items()}


def _plain(part: Array) -> Tensor:
    """A part as a tensor; 16-bit unsigned parts are bfloat16 scales."""
    part = np.ascontiguousarray(part)
    if part.dtype == np.uint16:
        return Tensor(part.shape, Plain("bf16"), {"data": part})
    return tensor(part)


def _gptq(base: str, one: Tensor) -> dict[str, Array]:
    assert isinstance(one.encoding, Gptq)
    columns = one.shape[1]
    plain = (np.arange(columns) // (one.encoding.group or max(columns, 1))).astype(np.int32)
    return {f"{base}.{p}": part for p, part in ({"g_idx": plain} | dict(one.parts)).items()}


def _direct(base: str, one: Tensor) -> dict[str, Array]:
    return {f"{base}.{p}": part for p, part in one.parts.items()}


def _compressed(base: str, one: Tensor) -> dict[str, Array]:
    return _direct(base, one) | {f"{base}.weight_shape": np.array(one.shape, np.int64)}


def _bnb4(base: str, one: Tensor) -> dict[str, Array]:
    assert isinstance(one.encoding, Bnb4)
    table, parts = one.encoding.table, dict(one.parts)
    state: dict[str, Any] = {
        "quant_type": table,
        "blocksize": one.encoding.block,
        "dtype": "bfloat16",
        "shape": list(one.shape),
    }
    if one.encoding.nested:
        state["nested_blocksize"] = one.encoding.nested
        state["nested_dtype"] = "float32"
        state["nested_offset"] = float(parts.pop("offset")[0])
    text = np.frombuffer(json.dumps(state).encode(), np.uint8)
    stored = {f"{base}.weight": parts.pop("weight")}
    stored |= {f"{base}.weight.{p}": part for p, part in parts.items()}
    return stored | {f"{base}.weight.quant_state.bitsandbytes__{table}": text}


_NATIVE: dict[type[Encoding], tuple[str, Callable[[str, Tensor], dict[str, Array]]]] = {
    Gptq: ("gptq", _gptq),
    Awq: ("awq", _direct),
    Compressed: ("compressed-tensors", _compressed),
    BnbInt8: ("bitsandbytes", _direct),
    Bnb4: ("bitsandbytes", _bnb4),
}


def _save_tokenizer(files: ModelFiles, folder: Path) -> None:
    source = files.tokenizer
    kind = source.get("kind")
    if kind == "huggingface":
        shutil.copyfile(source["path"], folder / "tokenizer.json")
    elif kind == "sentencepiece":
        shutil.copyfile(source["path"], folder / "tokenizer.model")
    elif kind == "gguf":
        from llama_core.model.tokenizer import tokenizer_json

        (folder / "tokenizer.json").write_text(tokenizer_json(source), encoding="utf-8")
    config = {k: v for k, v in source.get("config", {}).items() if k != "chat_template"}
    if config:
        _save_json(folder / "tokenizer_config.json", config)
    templates = dict(source.get("templates", {}))
    if files.chat_template is not None:
        templates["default"] = files.chat_template
    if (default := templates.pop("default", None)) is not None:
        (folder / "chat_template.jinja").write_text(default, encoding="utf-8")
    extra = folder / "additional_chat_templates"
    for name, text in templates.items():
        extra.mkdir(exist_ok=True)
        if Path(name).name == name:
            (extra / f"{name}.jinja").write_text(text, encoding="utf-8")


def _save_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
