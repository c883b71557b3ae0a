"""A corpus: files named by the user, what they are, and what makes one the same as before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core.errors import did_you_mean, plain
from llama_plugin_train.data.faults import DataError
from llama_plugin_train.sealed import digest_of_file

SUFFIXES = {
    ".txt": "text", ".text": "text", ".md": "text",
    ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet",
}  # fmt: skip
FORMATS = tuple(dict.fromkeys(SUFFIXES.values()))


@dataclass(frozen=True, slots=True)
class Corpus:
    """Files and folders, read in order; folders by the names in them.

    `separator` parts the documents of a text file, which is one document without it. JSON lines and
    Parquet hold a text under `text_field` or a conversation under `messages_field`.
    """

    name: str
    paths: tuple[Path, ...]
    format: str | None = None  # by the suffix of each file
    separator: str | None = None
    text_field: str = "text"
    messages_field: str = "messages"

    def __post_init__(self) -> None:
        if not self.name or not all(c.isalnum() or c in "-_" for c in self.name):
            raise DataError(
                f"'{plain(self.name)}' cannot name a corpus",
                remedy="Use letters, digits, - and _.",
            )
        if self.format is not None and self.format not in FORMATS:
            raise DataError(
                f"no corpus is read as '{plain(self.format)}'",
                remedy=did_you_mean(self.format, FORMATS) or f"There are: {', '.join(FORMATS)}.",
            )
        if self.separator == "":
            raise DataError("an empty separator parts nothing", remedy="Leave it out.")

    def files(self) -> list[Path]:
        """Every file in the order it is read; one that is empty or missing is an error."""
        found: list[Path] = []
        for path in self.paths:
            if path.is_dir():
                inside = sorted(one for one in path.rglob("*") if one.suffix in SUFFIXES)
                if not inside:
                    raise DataError(
                        f"the folder {path} has no file to read",
                        remedy=f"Files end in {', '.join(SUFFIXES)}.",
                    )
                found += inside
            elif path.is_file():
                found.append(path)
            else:
                raise DataError(f"there is no file {path}")
        if not found:
            raise DataError(f"the corpus '{self.name}' names no file")
        for path in found:
            if path.stat().st_size == 0:
                raise DataError(f"{path} is empty", remedy="Leave it out, or fill it.")
            self.format_of(path)
        return found

    def format_of(self, path: Path) -> str:
        found = self.format or SUFFIXES.get(path.suffix)
        if found is None:
            raise DataError(
                f"what {path} holds cannot be told from its name",
                remedy=f"Give a format: {', '.join(FORMATS)}.",
            )
        return found

    def options(self) -> dict[str, Any]:
        """What besides the files decides which documents there are."""
        return {
            "format": self.format,
            "separator": self.separator,
            "text_field": self.text_field,
            "messages_field": self.messages_field,
        }

    def digests(self) -> list[dict[str, Any]]:
        """Each file with its SHA-256, in the order they are read."""
        return [
            {"path": str(path), "bytes": path.stat().st_size, "sha256": digest_of_file(path)}
            for path in self.files()
        ]
