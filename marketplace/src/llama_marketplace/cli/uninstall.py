"""`llama marketplace uninstall`: without a plugin, and without what only it needed."""

from __future__ import annotations

import click

from llama_core.cli.output import json_option
from llama_marketplace.cli import shopping


@click.command("uninstall", epilog="Example: llama marketplace uninstall llama-plugin-rhyme")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@shopping.dry_run_option
@json_option
def command(names: tuple[str, ...], dry_run: bool, as_json: bool) -> None:
    """Uninstall plugins, and what only they needed; needs no network.

    What pip installed is pip's to uninstall.
    """
    from llama_marketplace.install.generations import Generations
    from llama_marketplace.install.packages import Packages
    from llama_marketplace.install.planning import Planner
    from llama_marketplace.sources import configured

    planner = Planner(configured(), Generations(), Packages())
    shopping.finish(
        planner,
        planner.uninstall(names),
        done="done,",
        nothing="nothing to do",
        dry_run=dry_run,
        as_json=as_json,
    )
