"""`llama doctor`: the machine, the settings, the plugins, and what would be chosen for what."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from typing import Any

import click

from llama_core import __version__
from llama_core.catalogue import State
from llama_core.choice import choose_backend, devices_of
from llama_core.cli.app import Session
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session, summary
from llama_core.config import SETTINGS, Config
from llama_core.contracts import KINDS
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins


@click.command("doctor", epilog="Example: llama doctor --json")
@json_option
@pass_session
def command(session: Session, as_json: bool) -> None:
    """Say what is here, what would be chosen, and why. Activates plugins that have devices."""
    facts = report(session)
    emit(facts, as_json, lambda: _lines(facts))


def report(session: Session) -> dict[str, Any]:
    """Everything `llama doctor` knows, as one object."""
    problem = _settings_problem(session)
    plugins = session.plugins
    backends = _backends(plugins)
    return {
        "core": __version__,
        "python": {
            "version": platform.python_version(),
            "implementation": platform.python_implementation(),
            "executable": sys.executable,
        },
        "machine": {
            "system": platform.platform(),
            "arch": platform.machine(),
            "cores": cores(),
            "memory_bytes": memory_bytes(),
        },
        "settings": {
            "files": [str(file) for file in session.config.files],
            "set": dict(session.config.origin),
            "problem": problem,
            "known": {setting.key: setting.help for setting in SETTINGS},
        },
        "backends": backends,
        "backend": _chosen_backend(plugins),
        "choices": {kind: _choices(plugins, kind) for kind in KINDS},
        # Last: looking for devices above may have quarantined something.
        "plugins": [summary(one) for one in plugins],
        "notes": list(plugins.announcements.counts),
    }


def _settings_problem(session: Session) -> str | None:
    """What is wrong with the settings. The rest is then reported under the defaults."""
    try:
        assert session.config
    except LlamaError as error:
        session.config = Config()
        return str(error)
    return None


def cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None  # not told by this system


def _backends(plugins: Plugins) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in plugins.names("backend"):
        try:
            backend = plugins.create("backend", name)
            devices = devices_of(plugins, name, backend)
            faults = list(backend.faults()) if hasattr(backend, "faults") else []
        except LlamaError as error:
            found[name] = {"devices": [], "reason": str(error), "faults": []}
            continue
        rows = [
            {"id": d.id, "kind": d.kind, "name": d.name, "memory_bytes": d.memory_bytes}
            for d in devices
        ]
        found[name] = {"devices": rows, "reason": devices.reason, "faults": faults}
    return found


def _chosen_backend(plugins: Plugins) -> dict[str, Any]:
    try:
        choice = choose_backend(plugins)
    except LlamaError as error:
        return {"name": None, "reason": str(error)}
    return {"name": choice.name, "reason": choice.reason, "rejected": dict(choice.rejected)}


def _choices(plugins: Plugins, kind: str) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for offer in plugins.capabilities(kind):
        name = offer.provides.name
        row = chosen.setdefault(name, {"plugin": None, "rejected": {}})
        if offer.reason is not None:
            row["rejected"][offer.plugin.name] = str(offer.reason)
        elif row["plugin"] is None:
            row["plugin"] = plugins.resolve(kind, name).plugin.name
    return chosen


def _lines(facts: dict[str, Any]) -> Iterable[str]:
    machine, python = facts["machine"], facts["python"]
    memory = machine["memory_bytes"]
    yield f"llama-core {facts['core']}, Python {python['version']} ({python['executable']})"
    size = f", {memory / 2**30:.1f} GiB" if memory else ""
    yield f"{machine['system']} {machine['arch']}, {machine['cores']} cores{size}"
    for file in facts["settings"]["files"]:
        yield f"settings from {file}"
    for key, origin in facts["settings"]["set"].items():
        yield f"  {key} is set by {origin}"
    if facts["settings"]["problem"]:
        yield f"settings not used: {facts['settings']['problem']}"
    yield ""
    for one in facts["plugins"]:
        yield f"plugin {one['name']} {one['version']}: {one['state']}"
        if one["state"] not in (State.READY, State.ACTIVE):
            yield f"  {one['reason']}"
    yield ""
    for name, backend in facts["backends"].items():
        devices = ", ".join(f"{d['id']} ({d['name']})" for d in backend["devices"])
        yield f"backend {name}: {devices or 'no device: ' + str(backend['reason'])}"
        yield from (f"  {fault}" for fault in backend["faults"])
    chosen = facts["backend"]
    yield f"backend to be used: {chosen['name'] or 'none'} ({chosen['reason']})"
    for kind, names in facts["choices"].items():
        offers = [
            name if row["plugin"] == "builtin" else f"{name} ({row['plugin']})"
            for name, row in names.items()
            if row["plugin"] is not None
        ]
        if offers and kind != "backend":
            yield f"{kind}: {', '.join(offers)}"
