"""`llama marketplace lock`: the set of plugins that is installed, for another environment."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("lock", epilog="Example: llama marketplace lock && git add marketplace.lock")
@click.argument("file", type=FILE, default=Path("marketplace.lock"))
@json_option
def command(file: Path, as_json: bool) -> None:
    """Write down what is installed, each plugin and what it needs by version and digest.

    `llama marketplace sync` installs the same elsewhere, on the same kind of machine.
    """
    from llama_marketplace.install import locking
    from llama_marketplace.install.generations import Generations

    now = Generations().current()
    if not now.plugins:
        raise LlamaError("no plugin is installed from here, so there is nothing to lock")
    locking.write(file, now.dists)
    emit(
        {"file": str(file), "dists": [each.name for each in now.dists]},
        as_json,
        lambda: [f"{file}: {len(now.dists)} locked"],
    )
