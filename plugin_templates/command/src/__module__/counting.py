"""Counting the tokens of files. Knows nothing of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from llama_core.errors import LlamaError


@dataclass(frozen=True, slots=True)
class Counted:
    """One file."""

    path: str
    letters: int
    tokens: int


def count(
    paths: Iterable[Path], encode: Callable[[str], Sequence[int]], done: Callable[[], None]
) -> list[Counted]:
    """Every file, in their order; `done` is called after each."""
    found = []
    for path in paths:
        text = _text(path)
        found.append(Counted(str(path), len(text), len(encode(text))))
        done()
    return found


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise LlamaError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise LlamaError(
            f"{path} is no text in UTF-8: byte {error.start} cannot be read",
            remedy="Leave the file out, or convert it first.",
        ) from error
