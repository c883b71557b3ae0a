"""The plugin's hooks. Importing this, or asking for the command, imports nothing but click."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_core import hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def llama_add_command(name: str) -> click.Command | None:
    if name != "marketplace":
        return None
    from llama_marketplace.cli.command import marketplace

    return marketplace
