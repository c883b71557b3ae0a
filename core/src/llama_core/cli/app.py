"""The group behind `llama`: which commands there are, and how errors reach the user.

The core's own commands are a table of module names, those of plugins come from their manifests; a
command's code is imported when it is run, completed or asked for its own help.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from llama_core import __version__, overlay
from llama_core.config import Config, load_config
from llama_core.discovery_cache import discover_cached
from llama_core.errors import LlamaError, OptionsError, did_you_mean, sentence

if TYPE_CHECKING:
    from llama_core.discovery import Found
    from llama_core.plugins import Plugins

log = logging.getLogger("llama_core")

# What writing to standard output meets where the file behind it cannot grow, or there is none.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)

# name -> (module, one line for --help)
COMMANDS: Mapping[str, tuple[str, str]] = {
    "chat": ("chat", "Chat with a model."),
    "bench": ("bench", "Measure how fast a model is, on one backend or two."),
    "completion": ("completion", "Print the completion script of a shell."),
    "doctor": ("doctor", "Say what is here, what would be chosen, and why."),
    "eval": ("eval", "Measure how well a model predicts a text or answers questions."),
    "list": ("list_models", "List the models that are here."),
    "plugins": ("plugins", "List, inspect, switch on and off what is installed."),
    "pull": ("pull", "Download a model from the hub."),
    "rm": ("remove", "Remove a model that was pulled."),
    "run": ("run", "Complete a prompt with a model."),
    "show": ("show", "Say what a model is, without loading it."),
}

# Before a dot in the name of a plugin's command: the group of ours that it is lent to.
GROUPS = ("plugins.",)


class Session:
    """What one run of the command line shares: flags, settings, and plugins once asked for."""

    def __init__(self) -> None:
        self.flags: dict[str, Any] = {}

    @cached_property
    def config(self) -> Config:
        return load_config(self.flags)

    @cached_property
    def found(self) -> list[Found]:
        if self.config.plugins:
            overlay.append(strict=self.config.strict)
        if self.config.locked:
            from llama_core.discovery import discover

            return discover()
        return discover_cached()

    @cached_property
    def plugins(self) -> Plugins:
        from llama_core.plugins import Plugins

        return Plugins(self.found, self.config)

    def commands(self, group: str = "") -> dict[str, str]:
        """The commands that plugins lend to a group, of those that are on: name to summary."""
        offered = {name: summary for name, (summary, _, on) in self._offered.items() if on}
        if group:
            return {n.removeprefix(group): s for n, s in offered.items() if n.startswith(group)}
        return {n: s for n, s in offered.items() if not n.startswith(GROUPS)}

    def lent(self, command: str) -> click.Command:
        """The command of a plugin, by the name in its manifest."""
        from llama_core.cli import lent

        given = lent.recall(command, self.found, self.config)
        if given is None:
            given = self.plugins.create("command", command)
            assert isinstance(given, click.Command)
            lent.remember(command, self.found, self.plugins)
        return given

    def switched_off(self, command: str) -> str | None:
        """The plugin that would lend a command if it were on."""
        _, plugin, on = self._offered.get(command, ("", "", True))
        return None if on else plugin

    @cached_property
    def _offered(self) -> dict[str, tuple[str, str, bool]]:
        """Read off the manifests unvalidated; running a command validates its plugin's."""
        try:
            config = self.config
        except LlamaError as error:  # help must not depend on the settings being right
            log.warning("the commands of plugins are not shown: %s", error)
            return {}
        named: dict[str, tuple[str, str, bool]] = {}
        for one in self.found:
            on = config.plugins and one.name not in config.disable
            on = on and (config.allow is None or one.name in config.allow)
            provides = (one.table or {}).get("provides", [])
            for entry in provides if isinstance(provides, list) and not one.error else ():
                if isinstance(entry, dict) and entry.get("kind") == "command":
                    summary = str(entry.get("summary") or f"From plugin {one.name}.")
                    named.setdefault(str(entry.get("name")), (summary, one.name, on))
        return named


class LendingGroup(click.Group):
    """A group that plugins add to: it lists what they lend by name and summary alone."""

    lent_to = ""  # what their manifests write before the name

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*self.own(), *_session(ctx).commands(self.lent_to)})

    def own(self) -> Mapping[str, str]:
        """The group's own commands: name to summary."""
        return {name: each.get_short_help_str(120) for name, each in self.commands.items()}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        session = _session(ctx)
        if cmd_name in self.commands or cmd_name not in session.commands(self.lent_to):
            return super().get_command(ctx, cmd_name)
        return session.lent(self.lent_to + cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        command = self.get_command(ctx, name)
        if command is None and not name.startswith("-"):
            owner = _session(ctx).switched_off(self.lent_to + name)
            near = did_you_mean(name, self.list_commands(ctx))
            if owner is not None:
                hint = f"plugin '{owner}' has it and is switched off"
            else:
                hint = near or "a plugin may add a command; the project's README lists those known"
            raise click.UsageError(sentence(f"there is no command {name!r}", hint), ctx)
        return name, command, args[1:]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = {**_session(ctx).commands(self.lent_to), **self.own()}
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows.items()))


class LlamaGroup(LendingGroup):
    """The commands of the core are imported when they are asked for."""

    def own(self) -> Mapping[str, str]:
        return {name: summary for name, (_, summary) in COMMANDS.items()}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in COMMANDS:
            module = import_module(f"llama_core.cli.{COMMANDS[cmd_name][0]}")
            command = module.command
            assert isinstance(command, click.Command)
            return command
        return super().get_command(ctx, cmd_name)


def _session(ctx: click.Context) -> Session:
    return ctx.ensure_object(Session)


def _flag(name: str, key: str, value: Any, text: str) -> Callable[[Any], Any]:
    """A flag before the command. Eager: which commands there are may depend on it."""

    def set_flag(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            _session(ctx).flags[key] = value

    return click.option(
        name, is_flag=True, is_eager=True, expose_value=False, callback=set_flag, help=text
    )


@click.group(
    cls=LlamaGroup,
    name="llama",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: llama doctor",
)
@click.version_option(__version__, prog_name="llama-core")
@_flag("--no-plugins", "plugins", False, "Use the builtins only.")
@_flag("--strict", "core.strict", True, "Make every fallback an error.")
def llama() -> None:
    """Run, measure and look into LLaMA-family models; everything is a plugin."""


def run(argv: list[str]) -> int:
    """Run one command line and give its exit code."""
    _show_announcements()
    try:
        result = llama.main(argv, prog_name="llama", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except OptionsError as error:  # what was typed is not what a capability takes
        return _say(error.to_dict(), str(error), argv, 2)
    except LlamaError as error:
        return _say(error.to_dict(), str(error), argv, 1)
    except click.UsageError as error:
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            click.echo(error.format_message(), err=True)
            return 2
        message = error.format_message()
        see = f"see `{error.ctx.command_path} --help`" if error.ctx else None
        facts = {"code": "usage", "message": message, "remedy": see}
        return _say(facts, message + (f" ({see})" if see else ""), argv, 2)
    except click.ClickException as error:
        return _say(
            {"code": "error", "message": error.format_message()}, error.format_message(), argv, 1
        )
    except click.Abort as error:  # the user's Ctrl-C, or no answer to a question
        return 130 if isinstance(error.__cause__, KeyboardInterrupt) else 1
    except BrokenPipeError:
        _silence()  # the reader left: nothing more to say, and nowhere to say it
        return 1
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _silence()
        click.echo(f"llama: error: cannot write the output: {error.strerror}", err=True)
        return 1


def _silence() -> None:
    """What is still in the buffer would fail once more when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _say(facts: Mapping[str, Any], line: str, argv: list[str], code: int) -> int:
    click.echo(f"llama: error: {' '.join(line.split())}", err=True)
    if "--json" in argv:
        click.echo(json.dumps({"error": facts}))
    return code


def _show_announcements() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("llama: %(message)s"))
    log = logging.getLogger("llama_core")
    log.handlers, log.propagate = [handler], False
