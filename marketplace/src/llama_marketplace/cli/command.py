"""The group `llama marketplace`: a table of its commands, each imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

from llama_core.errors import did_you_mean, sentence

# name -> (module of llama_marketplace.cli that holds it as `command`, one line for --help)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "accept": ("accept", "Take in what a publisher offers."),
    "indexes": ("indexes", "Trust an index, or no longer."),
    "info": ("info", "Show everything that is known of a plugin."),
    "init": ("init", "Start an index of your own."),
    "install": ("install", "Install plugins beside this environment."),
    "keys": ("keys", "Make signing keys, and replace them."),
    "list": ("list_installed", "List what is installed, and from where."),
    "lock": ("lock", "Write down what is installed, by digest."),
    "mark": ("mark", "Deprecate, yank or quarantine a version."),
    "publish": ("publish", "Publish wheels in an index."),
    "publishers": ("publishers", "Let publishers in, and list them."),
    "rebuild": ("rebuild", "Make again what follows from an index's records."),
    "renew": ("renew", "Sign again what will soon not be believed."),
    "rollback": ("rollback", "Go back to what was installed before."),
    "search": ("search", "Find plugins that fit this machine."),
    "serve": ("serve", "Serve an index, to try it."),
    "site": ("site", "Render indexes as a web site."),
    "sync": ("sync", "Install exactly what a lock file names."),
    "uninstall": ("uninstall", "Uninstall plugins."),
    "update": ("update", "Update plugins."),
    "verify": ("verify", "Check what is installed."),
}


class LazyGroup(click.Group):
    """Lists its commands by name and summary alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"llama_marketplace.cli.{COMMANDS[cmd_name][0]}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        command = self.get_command(ctx, args[0])
        if command is None and not args[0].startswith("-"):
            hint = did_you_mean(args[0], COMMANDS) or f"there are {', '.join(sorted(COMMANDS))}"
            raise click.UsageError(sentence(f"there is no command {args[0]!r}", hint), ctx)
        return args[0], command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted((name, about) for name, (_, about) in COMMANDS.items()))


@click.group("marketplace", cls=LazyGroup, epilog="Example: llama marketplace search quantizer")
def marketplace() -> None:
    """Find, install and publish plugins, from indexes whose every byte is signed for."""
