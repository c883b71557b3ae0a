"""A plugin's command without the catalogue, where nothing has changed since the catalogue gave it.

Which plugin answers for a name, and that all of them are in order, follows from the manifests, the
settings and the machine. The answer is remembered under a digest of these, with the file that was
checked when the plugin was activated; while both hold, that one module is imported and asked.
Whatever is out of the ordinary is left to the catalogue, which says what is wrong.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import logging
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_core import __version__, overlay
from llama_core.discovery_cache import cache_folder
from llama_core.durable import replace_file
from llama_core.errors import LlamaError
from llama_core.isolation import Guard, Watchdog

if TYPE_CHECKING:
    from llama_core.config import Config
    from llama_core.discovery import Found
    from llama_core.plugins import Plugins

HOOK = "llama_add_command"

log = logging.getLogger("llama_core")


def recall(name: str, found: Sequence[Found], config: Config) -> click.Command | None:
    """The command, if the catalogue gave it in this very state before."""
    if config.locked:
        return None
    try:
        entry = json.loads(_file(name).read_bytes())
        plugin = next(each for each in found if each.name == entry["plugin"])
        if entry["state"] != _state(found, config):
            return None
        file = entry["file"]
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    watched = Guard(Watchdog(config.hook_timeout_seconds, _say), lambda error: None)
    try:
        with watched(plugin.name, HOOK):
            module = import_module(_module(plugin))
            hook = getattr(module, HOOK)
            takes = inspect.signature(hook).parameters
            if file != _stamp(module) or not set(takes) <= {"name", "options"}:
                return None
            given: dict[str, Any] = {"name": name, "options": {}}
            command = hook(**{key: given[key] for key in takes})
    except LlamaError:
        return None  # the catalogue meets the same, and knows what it means for the plugin
    return command if isinstance(command, click.Command) else None


def remember(name: str, found: Sequence[Found], plugins: Plugins) -> None:
    """What the catalogue gave, unless there was something to be said, which is said each time."""
    one = plugins.resolve("command", name)
    module = sys.modules.get(_module(one.plugin.found))
    if plugins.announcements.counts or plugins.config.locked or module is None:
        return
    entry = {
        "state": _state(found, plugins.config),
        "plugin": one.plugin.name,
        "file": _stamp(module),
    }
    try:
        file = _file(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_file(file, [json.dumps(entry).encode()], sync=False)
    except OSError:
        return  # a cache that cannot be written costs time, not correctness


def _state(found: Sequence[Found], config: Config) -> str:
    """All that the catalogue's answer follows from, in one digest."""
    taken_back = [overlay.withdrawn(each.dist, each.version, each.location) for each in found]
    machine = (__version__, sys.version, sys.platform, platform.machine())
    settings = replace(config, lock_file=Path())  # which differs by folder, and is not read
    return hashlib.sha256(repr((machine, settings, found, taken_back)).encode()).hexdigest()


def _file(name: str) -> Path:
    key = hashlib.sha256("\0".join([name, sys.version, *sys.path]).encode()).hexdigest()
    return cache_folder() / f"command-{key[:32]}.json"


def _module(found: Found) -> str:
    return str((found.table or {}).get("module") or found.package)


def _stamp(module: object) -> list[Any] | None:
    """Which file a module is of, and its time and size; None where that cannot be told."""
    path = getattr(module, "__file__", None)
    try:
        facts = os.stat(path or "")
    except OSError:
        return None
    return [path, facts.st_mtime_ns, facts.st_size]


def _say(plugin: str, where: str, seconds: float) -> None:
    log.warning("plugin '%s' has been in %s for over %g s", plugin, where, seconds)
