"""`llama plugins`: what is installed, what it provides, and switching it on and off."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from llama_core import lock, options
from llama_core.catalogue import Plugin, State
from llama_core.cli.app import LendingGroup, Session
from llama_core.cli.output import emit, json_option, table
from llama_core.config import project_config_file
from llama_core.discovery import BUILTIN
from llama_core.errors import LlamaError

MOST_NAMES = 4  # of a kind in one row of the list; `info` shows them all
OF_RUN = (
    "backend", "program", "rewrite", "drafter", "transform", "sampler", "preprocessor",
    "postprocessor",
)  # fmt: skip


def plugin_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion."""
    names = [one.name for one in ctx.ensure_object(Session).found]
    return sorted(name for name in names if name.startswith(incomplete))


pass_session = click.make_pass_decorator(Session, ensure=True)


class PluginsGroup(LendingGroup):
    """A plugin's command `plugins.NAME` is `llama plugins NAME`."""

    lent_to = "plugins."


@click.group("plugins", cls=PluginsGroup, epilog="Example: llama plugins list")
def command() -> None:
    """List, inspect, switch on and off what is installed."""


@command.command("list", epilog="Example: llama plugins list --json")
@json_option
@pass_session
def list_(session: Session, as_json: bool) -> None:
    """Every installed plugin and where it stands; imports none of them."""
    plugins = session.plugins
    emit(
        {"plugins": [summary(one) for one in plugins], "notes": list(plugins.announcements.counts)},
        as_json,
        lambda: table(
            ("PLUGIN", "VERSION", "STATE", "PROVIDES OR REASON"),
            (
                (one.name, one.found.version, one.state, str(one.reason or _provides(one)))
                for one in plugins
            ),
        ),
    )


@command.command("info", epilog="Example: llama plugins info builtin")
@click.argument("name", shell_complete=plugin_names)
@json_option
@pass_session
def info(session: Session, name: str, as_json: bool) -> None:
    """Everything one plugin says of itself, without importing it."""
    plugin = session.plugins[name]
    facts = details(session, plugin)

    def lines() -> Iterable[str]:
        yield f"{plugin.name} {plugin.found.version} ({plugin.found.dist}): {plugin.state}"
        if plugin.manifest:
            yield plugin.manifest.summary
        if plugin.reason:
            yield f"why: {plugin.reason}"
        yield f"manifest: {plugin.found.manifest_path}"
        for note in plugin.found.notes:
            yield f"note: {note}"
        for each in facts["provides"]:
            state = each["reason"] or each["summary"] or ""
            yield f"  {each['kind']} {each['name']} (contract {each['api']})  {state}".rstrip()
            for option, about in (each["takes"] or {}).items():
                yield f"    option {option}: {about}"
            used = "" if plugin.name == BUILTIN else _used_by(each["kind"], each["name"])
            if used and not each["reason"]:
                yield f"    use it: {used}"
        for need in facts["requires"]:
            yield f"  requires {need}"
        if facts["listens"]:
            yield f"  listens to {', '.join(facts['listens'])}"

    emit(facts, as_json, lines)


@command.command("doctor", epilog="Example: llama plugins doctor")
@click.argument("names", nargs=-1, shell_complete=plugin_names)
@json_option
@pass_session
@click.pass_context
def doctor(ctx: click.Context, session: Session, names: tuple[str, ...], as_json: bool) -> None:
    """Activate plugins one by one and say what is wrong; exits with 1 if anything is."""
    plugins = session.plugins
    results = []
    for plugin in [plugins[name] for name in names] or list(plugins):
        results.append(_examine(session, plugin, asked=bool(names)))
    broken = [one for one in results if one["problem"]]
    emit(
        {"plugins": results, "notes": list(plugins.announcements.counts)},
        as_json,
        lambda: (f"{one['name']}: {one['problem'] or one['state']}" for one in results),
    )
    ctx.exit(1 if broken else 0)


@command.command("enable", epilog="Example: llama plugins enable cpu")
@click.argument("name", shell_complete=plugin_names)
@click.option("--project", is_flag=True, help="Write the project's llama.toml.")
@json_option
@pass_session
def enable(session: Session, name: str, project: bool, as_json: bool) -> None:
    """Let a plugin be used again."""
    _switch(session, name, on=True, project=project, as_json=as_json)


@command.command("disable", epilog="Example: llama plugins disable cpu")
@click.argument("name", shell_complete=plugin_names)
@click.option("--project", is_flag=True, help="Write the project's llama.toml.")
@json_option
@pass_session
def disable(session: Session, name: str, project: bool, as_json: bool) -> None:
    """Keep an installed plugin from being loaded."""
    _switch(session, name, on=False, project=project, as_json=as_json)


@command.command("lock", epilog="Example: llama plugins lock && LLAMA_CORE_LOCKED=1 llama doctor")
@json_option
@pass_session
def lock_(session: Session, as_json: bool) -> None:
    """Write the lock file: from then on, locked mode loads these plugins and no other bytes."""
    from llama_core.config import load_config
    from llama_core.plugins import Plugins

    # What is locked is what would run unlocked; a stale lock must not keep itself in force.
    config = load_config({**session.flags, "core.locked": False})
    ready = [one.found for one in Plugins(session.found, config) if one.state is State.READY]
    entries = lock.write(config.lock_file, ready)
    facts = {name: {"version": one.version, "digest": one.digest} for name, one in entries.items()}
    emit(
        {"lock_file": str(config.lock_file), "plugins": facts},
        as_json,
        lambda: [f"{config.lock_file}: {len(entries)} locked", *(f"  {n}" for n in entries)],
    )


def _examine(session: Session, plugin: Plugin, *, asked: bool) -> dict[str, Any]:
    """Activate a plugin and check the schemas of its options; what is wrong is its `problem`."""
    problem: str | None = None
    try:
        if plugin.state is not State.DISABLED or asked:
            session.plugins.activate(plugin.name)
            for each in _manifest_provides(plugin):
                options.check(each, plugin=plugin.found)
    except LlamaError as error:
        problem = str(plugin.reason or error)
    return {**summary(plugin), "problem": problem}


def summary(plugin: Plugin) -> dict[str, Any]:
    """A plugin in one object, as `list` and `doctor` print it."""
    return {
        "name": plugin.name,
        "version": plugin.found.version,
        "dist": plugin.found.dist,
        "state": str(plugin.state),
        "reason": str(plugin.reason) if plugin.reason else None,
        "summary": plugin.manifest.summary if plugin.manifest else None,
        "provides": [f"{p.kind}:{p.name}" for p in _manifest_provides(plugin)],
    }


def details(session: Session, plugin: Plugin) -> dict[str, Any]:
    """Everything about one plugin."""
    unfit = {
        (c.provides.kind, c.provides.name): c.reason
        for c in session.plugins.capabilities()
        if c.plugin is plugin
    }
    return {
        **summary(plugin),
        "package": plugin.found.package,
        "module": plugin.manifest.module if plugin.manifest else None,
        "manifest": str(plugin.found.manifest_path),
        "notes": list(plugin.found.notes),
        "listens": list(plugin.manifest.listens) if plugin.manifest else [],
        "requires": [str(each) for each in plugin.manifest.requires] if plugin.manifest else [],
        "provides": [
            {
                **each.model_dump(mode="json"),
                "reason": str(why) if (why := unfit[each.kind, each.name]) else None,
                "takes": _takes(each, plugin),
            }
            for each in _manifest_provides(plugin)
        ],
    }


def _manifest_provides(plugin: Plugin) -> Iterable[Any]:
    return plugin.manifest.provides if plugin.manifest else ()


def _takes(provides: Any, plugin: Plugin) -> dict[str, str] | None:
    """The options of a capability, each with its schema in a few words."""
    try:
        declared = options.schema(provides, plugin=plugin.found)
    except LlamaError as error:
        return {"?": str(error)}
    if declared is None:
        return None
    required = declared.get("required", ())
    return {
        name: json.dumps(about) + (" (required)" if name in required else "")
        for name, about in declared.get("properties", {}).items()
    }


def _used_by(kind: str, name: str) -> str:
    """The command line that uses a capability, or nothing where none does by its name."""
    if kind in OF_RUN:
        return f"llama run MODEL --{kind} {name}"
    if kind == "command":
        return f"llama {name.replace('plugins.', 'plugins ', 1)}"
    return f"llama run {name}" if kind == "model" else ""


def _provides(plugin: Plugin) -> str:
    kinds: dict[str, list[str]] = {}
    for each in _manifest_provides(plugin):
        kinds.setdefault(each.kind, []).append(each.name)
    parts = [
        f"{kind} {', '.join(names) if len(names) <= MOST_NAMES else f'({len(names)})'}"
        for kind, names in kinds.items()
    ]
    if plugin.manifest and plugin.manifest.listens:
        parts.append(f"listens to {', '.join(plugin.manifest.listens)}")
    return "; ".join(parts)


def _switch(session: Session, name: str, *, on: bool, project: bool, as_json: bool) -> None:
    from llama_core.cli.settings import switch_plugin

    plugin = session.plugins[name]
    if plugin.name == BUILTIN:
        raise LlamaError("the builtin capabilities are part of the core and cannot be switched")
    nearest = project_config_file()
    folder = nearest.parent if nearest else Path.cwd()
    file = switch_plugin(session.config, name, on=on, project=folder if project else None)
    word = "enabled" if on else "disabled"
    emit(
        {"plugin": name, "enabled": on, "file": str(file)},
        as_json,
        lambda: [f"{name} is {word} in {file}"],
    )
