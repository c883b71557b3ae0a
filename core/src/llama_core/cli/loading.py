"""How a command line says which model is to run on what: options that several commands share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click

from llama_core.cli.app import Session
from llama_core.cli.named import DRAFTER, METAVAR, Named

F = TypeVar("F", bound=Callable[..., Any])


rewrite_option = click.option(
    "--rewrite",
    multiple=True,
    type=Named("rewrite", "act:act=q8:32"),
    metavar=METAVAR,
    help="Change the graph before it runs, e.g. act:act=q8:32.",
)


act_option = click.option(
    "--act",
    default="auto",
    show_default=True,
    help="Activations of linears: none, q8:BLOCK, q7:BLOCK, or auto: in 8 bits where that is "
    "faster.",
)


drafter_option = click.option(
    "--drafter",
    type=DRAFTER,
    metavar=METAVAR,
    help="Guess tokens for the model to verify, e.g. ngram: the same answer, maybe sooner.",
)


def model_options(command: F) -> F:
    """Add `--backend`, `--program`, `--context`, `--act`, `--rewrite` and `--drafter`; `opened`
    takes them."""
    for option in (
        drafter_option,
        rewrite_option,
        act_option,
        click.option(
            "--context",
            type=click.IntRange(min=2),
            help="Tokens of prompt and answer together; by default 4096 or what the model has.",
        ),
        click.option("--program", help="Run it by this program provider, without a graph."),
        click.option("--backend", help="The backend to run on; by default the best with a device."),
    ):
        command = option(command)
    return command


@contextmanager
def opened(session: Session, model: str, **options: Any) -> Iterator[Any]:
    """The loaded model, closed afterwards. A terminal shows that something is under way.

    The options are those of `model_options`, which are named as `load` names them.
    """
    from llama_core.engine.load import load

    if options["program"] is not None:
        if options["backend"] is not None:
            raise click.UsageError("--backend and --program exclude each other")
        if options["rewrite"]:
            raise click.UsageError("--rewrite changes a graph, and --program runs without one")
        if options["act"] != "auto":
            raise click.UsageError("--act changes a graph, and --program runs without one")
    with waiting(f"loading {model}"):
        loaded = load(model, plugins=session.plugins, **options)
    with loaded:
        yield loaded


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A sign of life on a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
    """For the shell: installed model plugins, models that were pulled, and files."""
    from click.shell_completion import CompletionItem

    from llama_core.engine.finding import pulled_names

    names = [*ctx.ensure_object(Session).plugins.names("model"), *pulled_names()]
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return [*found, CompletionItem(incomplete, type="file")]
