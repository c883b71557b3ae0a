"""The `gguf` format: one file, or its numbered parts, with everything in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.contracts.format import ModelFiles
from llama_core.model.files.faults import ModelFileError
from llama_core.model.files.gguf_weights import GgufModel

_PREFIXES = ("tokenizer.", "general.")


class GgufFormat:
    """Reads and writes .gguf files."""

    def __init__(self, announcements: Announcements | None = None) -> None:
        self.announcements = announcements

    def detects(self, path: Path) -> bool:
        if path.is_dir():
            return _only_file(path) is not None
        try:
            if not path.is_file():  # opening a pipe would wait for its writer
                return False
            with path.open("rb") as file:
                return file.read(4) == b"GGUF"
        except OSError:
            return False

    def open(self, path: Path) -> ModelFiles:
        if path.is_dir():
            found = _only_file(path)
            if found is None:
                raise ModelFileError(path, ["the folder does not hold exactly one GGUF model"])
            path = found
        model = GgufModel(path)
        about = {k: v for k, v in model.metadata.items() if k.startswith(_PREFIXES)}
        return ModelFiles(
            path=path,
            format="gguf",
            config=model.config,
            weights=model.weights,
            tokenizer=_tokenizer(path, about),
            chat_template=_template(path, about, "tokenizer.chat_template"),
        )

    def save(self, files: ModelFiles, path: Path) -> None:
        from llama_core.model.files.gguf_write import save_gguf

        save_gguf(files, path, self.announcements)


def _only_file(folder: Path) -> Path | None:
    """The one model of a folder without a config: a file, or the first of its parts."""
    if (folder / "config.json").exists():
        return None
    found = sorted(folder.glob("*.gguf"))
    firsts = [p for p in found if "-of-" not in p.name or "-00001-of-" in p.name]
    return firsts[0] if len(firsts) == 1 else None


def _tokenizer(path: Path, about: dict[str, Any]) -> dict[str, Any]:
    if "tokenizer.ggml.model" not in about:
        return {}
    prefix = "tokenizer.chat_template."
    named = {k.removeprefix(prefix): _template(path, about, k) for k in about if prefix in k}
    templates = {name: text for name, text in named.items() if text is not None}
    if (default := _template(path, about, "tokenizer.chat_template")) is not None:
        templates["default"] = default
    return {"kind": "gguf", "metadata": about, "templates": templates, "config": {}}


def _template(path: Path, about: dict[str, Any], key: str) -> str | None:
    value = about.get(key)
    if value is not None and not isinstance(value, str):
        raise ModelFileError(path, [f"'{key}' is no text"])
    return value
