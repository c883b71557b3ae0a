"""`llama marketplace sync`: exactly what a lock file names."""

from __future__ import annotations

from pathlib import Path

import click

from llama_core.cli.output import json_option
from llama_marketplace.cli import shopping

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("sync", epilog="Example: llama marketplace sync marketplace.lock")
@click.argument("file", type=FILE, default=Path("marketplace.lock"))
@shopping.packages_option
@shopping.dry_run_option
@json_option
def command(file: Path, package_index: str | None, dry_run: bool, as_json: bool) -> None:
    """Install what a lock file names, by digest, and uninstall what it does not."""
    from llama_marketplace.install import locking

    dists = locking.read(file)
    planner = shopping.planner(package_index)
    shopping.finish(
        planner,
        planner.exactly(dists),
        done="done,",
        nothing=f"this is what {file} names already",
        dry_run=dry_run,
        as_json=as_json,
    )
