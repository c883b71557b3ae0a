"""Files that a command writes at its end: whether they can be written is seen at its beginning."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from llama_core.errors import LlamaError


class NewFile(click.ParamType):
    """The path of a file that is there and writable, or can be made."""

    name = "file"

    def convert(self, value: Any, param: Any, ctx: Any) -> Path:
        path = Path(value)
        try:
            if path.is_dir():
                self.fail(f"{path} is a folder", param, ctx)
            if not path.parent.is_dir():
                self.fail(f"there is no folder {path.parent}", param, ctx)
            if not path.exists():  # some folders let nobody make a file, whatever their rights say
                path.open("xb").close()
                path.unlink()
            elif not os.access(path, os.W_OK):
                self.fail(f"{path} cannot be written", param, ctx)
        except OSError as error:
            self.fail(f"{path} cannot be written: {error.strerror}", param, ctx)
        return path


def write_text(path: Path, text: str) -> None:
    """Write it after all; a disk may still have filled up meanwhile."""
    try:
        path.write_text(text, "utf-8")
    except OSError as error:
        raise LlamaError(f"cannot write {path}: {error.strerror}") from None
