"""The plugin's hooks. Importing this, or asking for the command, imports nothing but click."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from llama_core import hookimpl

if TYPE_CHECKING:
    import click


# what the manifest calls it -> where it is, imported when it is asked for
COMMANDS = {
    "marketplace": ("llama_marketplace.cli.command", "marketplace"),
    "plugins.check": ("llama_marketplace.author.check", "check"),
    "plugins.new": ("llama_marketplace.author.new", "new"),
}


@hookimpl
def llama_add_command(name: str) -> click.Command | None:
    if name not in COMMANDS:
        return None
    module, attribute = COMMANDS[name]
    command: click.Command = getattr(import_module(module), attribute)
    return command
