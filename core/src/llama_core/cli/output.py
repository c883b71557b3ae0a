"""What a command prints: one object for machines under `--json`, lines and tables for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def json_option(command: F) -> F:
    """Add `--json` to a command, as the argument `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")(command)


def emit(data: Any, as_json: bool, lines: Callable[[], Iterable[str]]) -> None:
    """Print the object, or the lines made of it."""
    if as_json:
        click.echo(json.dumps(data, indent=2, default=str, ensure_ascii=False))
        return
    text = "\n".join(lines())
    if text:
        click.echo(text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterable[str]:
    """Aligned columns; the last one is cut to the terminal's width, and only on a terminal."""
    all_rows = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in all_rows) for i in range(len(header) - 1)]
    room = shutil.get_terminal_size().columns - sum(widths) - 2 * len(widths)
    cut = max(room, 20) if sys.stdout.isatty() else None
    for number, row in enumerate(all_rows):
        last = row[-1] if cut is None or len(row[-1]) <= cut else row[-1][: cut - 1] + "…"
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        line = "  ".join([*cells, last]).rstrip()
        yield click.style(line, bold=True) if number == 0 else line
