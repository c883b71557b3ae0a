"""Looks at a plugin's imports in a process of its own, where nothing was imported before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from llama_core.discovery import Found

_TIMEOUT_SECONDS = 120  # a watchdog, not a goal

_PROGRAM = """
import json, sys
name, package = sys.argv[1:]
from llama_core import options
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
plugins = Plugins(discover(), Config())
plugin = plugins[name]
for one in plugin.manifest.provides:
    try:
        options.schema(one, plugin=plugin.found)
    except LlamaError:
        pass  # another rule says so
early = [each for each in (package,) if each in sys.modules]
before = set(sys.modules)
try:
    plugins.activate(name)
    failure = ""
except LlamaError as error:
    failure = str(error)
answer = {"early": early, "imported": sorted(set(sys.modules) - before), "failure": failure}
print("\\n" + json.dumps(answer))
"""


class ProbeError(Exception):
    """The child failed; the text is what it last said."""


@dataclass(frozen=True, slots=True)
class Probe:
    """What was imported when."""

    imported_early: tuple[str, ...]  # the plugin's package, where listing it already imports it
    imported: tuple[str, ...]  # by activating it, beyond what the core had imported
    failure: str  # why it cannot be activated there; empty where it can


def probe(found: Found) -> Probe:
    """List and activate one plugin in a fresh interpreter; once per plugin and process."""
    assert found.location is not None
    # parents[0] is the folder that holds a top-level package, parents[1] that of a nested one
    root = found.location.parents[found.package.count(".")]
    return _probe(found.name, found.package, root, tuple(sys.path))


@lru_cache(maxsize=128)
def _probe(name: str, package: str, root: Path, path: tuple[str, ...]) -> Probe:
    places = dict.fromkeys([str(root), *(place for place in path if place)])
    ran = subprocess.run(  # noqa: S603 - our own program, no shell
        [sys.executable, "-c", _PROGRAM, name, package],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if ran.returncode != 0:
        last = ran.stderr.strip().splitlines()
        raise ProbeError(last[-1] if last else f"exit code {ran.returncode}")
    answer = json.loads(ran.stdout.splitlines()[-1])
    return Probe(tuple(answer["early"]), tuple(answer["imported"]), answer["failure"])
