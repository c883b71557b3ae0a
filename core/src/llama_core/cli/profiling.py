"""`--profile FILE`: an option that commands share, and what it prints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llama_core.cli.files import NewFile
from llama_core.cli.output import table
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.engine.engine import Engine
    from llama_core.engine.profile import Share, Summary

F = TypeVar("F", bound=Callable[..., Any])


def profile_option(command: F) -> F:
    """Add `--profile` to a command, as the argument `profile`."""
    return click.option(
        "--profile",
        type=NewFile(),
        help="Write where the time went into this file, for chrome://tracing or Perfetto.",
    )(command)


@contextmanager
def profiling(engine: Engine, path: Path | None) -> Iterator[None]:
    """Trace what happens meanwhile into the file and add it up on standard error, if asked to."""
    if path is None:
        yield
        return
    from llama_core.engine.profile import summarize, traced

    with traced(engine) as trace:
        yield
    try:
        trace.write(path)
    except OSError as error:
        raise LlamaError(f"cannot write {path}: {error.strerror}") from None
    click.echo("\n".join(lines(summarize(trace), path)), err=True)


def lines(summary: Summary, path: Path) -> Iterator[str]:
    """Where the time went, for people."""
    yield f"{summary.wall_seconds:.3f} s in {summary.num_steps} steps; the trace is in {path}"
    if summary.num_left_out:
        yield f"{summary.num_left_out} events were left out of the trace, and count here"
    parts = [("phase of a step", summary.phases), ("op", summary.ops), ("node", summary.nodes)]
    for title, shares in parts:
        if shares:
            yield from ("", *table((title, "times", "seconds", "share"), map(_cells, shares)))
    if not summary.ops:
        yield "the program does not tell the times of its nodes"


def _cells(share: Share) -> tuple[str, ...]:
    return share.name, str(share.count), f"{share.seconds:.4f}", f"{share.fraction:.1%}"
