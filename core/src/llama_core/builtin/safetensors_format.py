"""The `safetensors` format: a Hugging Face folder, or one file whose folder holds the config."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.contracts.format import ModelFiles
from llama_core.model.files.faults import ModelFileError
from llama_core.model.files.folder import FolderWeights, refuse_pickled
from llama_core.model.files.jsontext import read_object
from llama_core.model.files.save_folder import save_folder
from llama_core.model.files.templates import chat_templates

_MAX_CONFIG = 1 << 22


class SafetensorsFormat:
    """Reads folders with a config.json beside safetensors files, and writes them."""

    def __init__(self, announcements: Announcements | None = None) -> None:
        self.announcements = announcements

    def detects(self, path: Path) -> bool:
        if path.is_dir():
            names = {child.name for child in path.iterdir()}
            return "config.json" in names or any(n.endswith(".safetensors") for n in names)
        return path.suffix == ".safetensors"

    def open(self, path: Path) -> ModelFiles:
        folder = path if path.is_dir() else path.parent
        refuse_pickled(folder)
        if not (folder / "config.json").is_file():
            raise ModelFileError(folder, ["it has no config.json"])
        config = read_object(folder / "config.json", max_bytes=_MAX_CONFIG)
        quantization = config.get("quantization_config") or {}
        if not isinstance(quantization, Mapping):
            raise ModelFileError(folder / "config.json", ["'quantization_config' is no object"])
        weights = FolderWeights(folder, quantization)
        tokenizer = _tokenizer(folder)
        templates = tokenizer.get("templates", {})
        return ModelFiles(
            path=path,
            format="safetensors",
            config=config,
            weights=weights,
            generation=_optional(folder / "generation_config.json"),
            tokenizer=tokenizer,
            chat_template=templates.get("default"),
        )

    def save(self, files: ModelFiles, path: Path) -> None:
        save_folder(files, path, self.announcements)


def _optional(path: Path) -> dict[str, Any]:
    return read_object(path, max_bytes=1 << 24) if path.is_file() else {}


def _tokenizer(folder: Path) -> dict[str, Any]:
    """Where the tokenizer lies. A folder without one still opens: base tensors need no words."""
    config = _optional(folder / "tokenizer_config.json")
    found: dict[str, Any] = {"config": config, "templates": chat_templates(folder, config)}
    if (folder / "tokenizer.json").is_file():
        return found | {"kind": "huggingface", "path": str(folder / "tokenizer.json")}
    for name in ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"):
        if (folder / name).is_file():
            return found | {"kind": "sentencepiece", "path": str(folder / name)}
    return found
