"""`llama marketplace update`: what is installed, in the newest version that fits."""

from __future__ import annotations

import click

from llama_core.cli.output import json_option
from llama_marketplace.cli import shopping


@click.command("update", epilog="Example: llama marketplace update --dry-run")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@shopping.packages_option
@shopping.dry_run_option
@json_option
def command(
    names: tuple[str, ...], package_index: str | None, dry_run: bool, as_json: bool
) -> None:
    """Update plugins, or all of them, to the newest version that fits this machine.

    One whose version was quarantined or yanked meanwhile goes to the newest that was not, which
    may be an older one; that is said.
    """
    planner = shopping.planner(package_index)
    shopping.finish(
        planner,
        planner.update(names),
        done="updated",
        nothing="everything is in the newest version that fits"
        if planner.generations.current().plugins
        else "no plugin is installed from here",
        dry_run=dry_run,
        as_json=as_json,
    )
