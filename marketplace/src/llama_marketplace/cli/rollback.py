"""`llama marketplace rollback`: what was installed before."""

from __future__ import annotations

import click

from llama_core.cli.output import emit, json_option


@click.command("rollback", epilog="Example: llama marketplace rollback --to 3")
@click.option("--to", type=click.IntRange(min=0), help="A generation; 0 is without any plugin.")
@json_option
def command(to: int | None, as_json: bool) -> None:
    """Go back to what was installed before, or to any generation; needs no network.

    Every installation, update and uninstallation makes a generation. `llama marketplace list
    --generations` shows those that are kept.
    """
    from llama_marketplace.install.generations import Generations
    from llama_marketplace.install.transaction import roll_back

    found = roll_back(Generations(), to)
    plugins = {each.name: each.version for each in found.plugins.values()}
    emit(
        {"generation": found.number, "plugins": plugins},
        as_json,
        lambda: [
            f"generation {found.number} is in force"
            + (f", of {found.made}" if found.made else ": no plugin is installed from here"),
            *(f"  {name} {version}" for name, version in plugins.items()),
        ],
    )
