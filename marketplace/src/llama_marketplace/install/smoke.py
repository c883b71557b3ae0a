"""The first run of what was installed, in a child process.

The child, `python -m llama_marketplace.install.smoke`, is told on its standard input which
generation to use and which plugins to try. It has default settings, activates the plugins, checks
the schemas of their options, and has each capability made that needs nothing to be made. What fails
is told as JSON on its last line. Parent and child are both here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llama_core import overlay
from llama_core.errors import LlamaError, OptionsError, plain
from llama_marketplace.install.faults import InstallFailed

SECONDS = 600  # a watchdog: a framework's first import from a cold disk takes a minute
# Of the environment, what a program needs to run at all; no key or token is among it.
_KEPT = (
    "PATH", "HOME", "TMPDIR", "TEMP", "TMP", "LANG", "LC_ALL", "SYSTEMROOT", "PYTHONPATH",
    "PYTHONHOME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "XDG_DATA_HOME", "XDG_CACHE_HOME",
    "LOCALAPPDATA", "APPDATA", "USERPROFILE", "CUDA_VISIBLE_DEVICES", "CUDA_HOME", "ROCM_PATH",
)  # fmt: skip
# Opening a model reads its weights; the others are made without doing anything yet.
_NOT_MADE = ("model",)


class Trial:
    """The child process, which may be begun before there is anything to try.

    It imports what it needs and then waits to be told; whoever ends without telling it ends it.
    """

    def __init__(self) -> None:
        env = {key: os.environ[key] for key in _KEPT if key in os.environ}
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        self._folder = TemporaryDirectory(prefix="llama-smoke-")
        self._child = subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-P", "-m", __name__],
            cwd=self._folder.name, env=env, text=True, errors="replace",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def __enter__(self) -> Trial:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        for pipe in (self._child.stdin, self._child.stdout, self._child.stderr):
            if pipe is not None:  # not read to its end: what the child began may hold it open
                with suppress(OSError):
                    pipe.close()
        self._child.wait()
        self._folder.cleanup()

    def run(self, place: Path, plugins: Sequence[str]) -> None:
        """Have it run the plugins of a staged generation; raises with what it says is wrong."""
        what = f"the first run of {', '.join(plugins)}"
        told = json.dumps({"generation": str(place), "plugins": plugins}) + "\n"
        try:
            out, err = self._child.communicate(told, SECONDS)
        except subprocess.TimeoutExpired as error:
            raise InstallFailed(f"{what} has not ended within {SECONDS} s") from error
        try:
            problems = json.loads(out.splitlines()[-1])["problems"]
        except (IndexError, KeyError, TypeError, ValueError) as error:
            said = " ".join(err.split()[-60:])
            code = self._child.returncode
            raise InstallFailed(f"{what} ended with {code}: {plain(said, 600)}") from error
        if problems:
            told = "; ".join(f"{name}: {why}" for name, why in problems.items())
            raise InstallFailed(f"what was to be installed does not work here: {plain(told, 900)}")


def main() -> None:
    """In the child."""
    from llama_core.config import Config
    from llama_core.discovery import discover
    from llama_core.plugins import Plugins

    line = sys.stdin.readline()
    if not line:
        return  # there was nothing to try
    told = json.loads(line)
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    os.environ[overlay.VARIABLE] = told["generation"]
    if overlay.append(strict=True) is None:
        raise SystemExit("there is no generation to try")
    plugins = Plugins(discover(), Config())
    problems: dict[str, str] = {}
    for name in told["plugins"]:
        try:
            _try(plugins, name)
        except LlamaError as error:
            problems[name] = str(plugins[name].reason or error) if name in plugins.installed else (
                str(error)
            )  # fmt: skip
    print(json.dumps({"problems": problems}), flush=True)  # noqa: T201 - what the parent reads


def _try(plugins: Any, name: str) -> None:
    from llama_core import options

    plugins.activate(name)
    plugin = plugins[name]
    for provides in plugin.manifest.provides:
        options.check(provides, plugin=plugin.found)
        schema = options.schema(provides, plugin=plugin.found) or {}
        if provides.kind in _NOT_MADE or schema.get("required") or _elsewhere(plugins, provides):
            continue
        with suppress(OptionsError):  # an answer: it needs to be told more than its schema says
            plugins.create(provides.kind, f"{name}/{provides.name}")


def _elsewhere(plugins: Any, provides: Any) -> bool:
    """Whether it is for other machines than this one, though the plugin as a whole is for it."""
    return any(
        one.unfit is not None
        for one in plugins.capabilities(provides.kind)
        if one.provides is provides
    )


if __name__ == "__main__":
    main()
