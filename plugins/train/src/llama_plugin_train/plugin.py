"""The plugin's hooks. Importing this imports no torch, and neither does asking for the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llama_core import hookimpl

if TYPE_CHECKING:
    import click

    from llama_core.contracts.launcher import Launcher


@hookimpl
def llama_add_command(name: str) -> click.Command | None:
    if name != "train":
        return None
    from llama_plugin_train.cli.command import train

    return train


@hookimpl
def llama_create_launcher(name: str) -> Launcher | None:
    if name != "torchrun":
        return None
    from llama_plugin_train.loop.launching import Torchrun

    return Torchrun()
