"""`llama marketplace install`: plugins, checked and tried, beside this environment."""

from __future__ import annotations

from contextlib import nullcontext

import click

from llama_core.cli.output import json_option
from llama_marketplace.cli import shopping


@click.command("install", epilog="Example: llama marketplace install 'llama-plugin-rhyme>=1.2'")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--wheel", metavar="FILE", help="Take this wheel of it, whatever the rule says.")
@shopping.packages_option
@shopping.dry_run_option
@json_option
def command(
    names: tuple[str, ...], wheel: str | None, package_index: str | None, dry_run: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Install plugins, each in the newest version that fits this machine.

    A name may have a range behind it, as in 'NAME==1.2'. Nothing that is in this environment is
    changed: what plugins need and it lacks is laid beside it, from wheels alone, each by its
    digest. What fails, or is killed, leaves everything as it was.
    """
    if wheel is not None and len(names) != 1:
        raise click.UsageError("--wheel goes with one plugin")
    from llama_marketplace.install.smoke import Trial

    with nullcontext() if dry_run else Trial() as trial:  # it gets ready while this one plans
        planner = shopping.planner(package_index)
        wanted = [shopping.wanted(each, planner.sources, wheel) for each in names]
        shopping.finish(
            planner,
            planner.install(wanted),
            done="installed",
            nothing="nothing to do: this is what is installed",
            dry_run=dry_run,
            as_json=as_json,
            trial=trial,
        )
