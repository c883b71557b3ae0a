"""`llama pull`: a model from the hub into the cache, with a bar on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from llama_core.cli.output import emit, json_option
from llama_core.engine.memory import size
from llama_core.model import hub
from llama_core.model.files.disk import disk_bytes
from llama_core.model.hub import HubSettings
from llama_core.model.hub.download import Progress


@click.command("pull", epilog="Example: llama pull hf:HuggingFaceTB/SmolLM2-135M")
@click.argument("model")
@json_option
@click.pass_context
def command(ctx: click.Context, model: str, as_json: bool) -> None:
    """Download MODEL: hf:org/name, hf:org/name:file for one of several GGUF files, or
    hf:org/name@revision. What is there already is not downloaded again."""
    try:
        reference = hub.parse_reference(model)
    except hub.HubError as error:
        raise click.UsageError(str(error), ctx) from None
    settings = HubSettings.from_environment()
    try:
        with _bar() as progress:
            path = hub.pull(model, settings, progress=progress)
    except KeyboardInterrupt:
        click.echo(f"llama: interrupted; to go on where it stopped: llama pull {model}", err=True)
        ctx.exit(130)
    facts: dict[str, Any] = {
        "name": str(reference),
        "path": str(path),
        "bytes": disk_bytes(path),
        "offline": settings.offline,
    }
    whence = ", found without asking the hub: HF_HUB_OFFLINE is set" if settings.offline else ""
    emit(facts, as_json, lambda: [f"{reference}: {size(facts['bytes'])} in {path}{whence}"])


@contextmanager
def _bar() -> Iterator[Progress | None]:
    """Who hears of every piece that arrives: a bar for each file, or nobody."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich import progress
    from rich.console import Console

    columns: list[Any] = [progress.TextColumn("{task.description}"), progress.BarColumn()]
    columns += [progress.DownloadColumn(), progress.TransferSpeedColumn()]
    columns += [progress.TimeRemainingColumn()]
    tasks: dict[str, Any] = {}
    with progress.Progress(*columns, console=Console(stderr=True)) as shown:

        def hear(name: str, have: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = shown.add_task(name, total=total)
            shown.update(tasks[name], completed=have)

        yield hear
