"""Running `llama` as users do, with its own settings and cache folders.

Mostly in the tests' own process, since a new one takes half a second to import what it needs. What
is about the process, its streams, signals and memory, is tested with a process of its own, and so
is that the two say the same.
"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from llama_core import overlay
from llama_core.cli import main
from llama_core.testing.site import Site


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Llama:
    """The command in a scratch home with a scratch site of plugins."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = Site(root / "site")
        self.project = root / "project"
        self.project.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_CORE_")}
        self.env = {
            **kept,
            "HOME": str(root / "home"),
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "PYTHONPATH": str(self.site.folder),
            "COLUMNS": "200",
        }

    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, stdin: bytes = b""
    ) -> Done:
        """Run it here. An error that is none of the command's is the test's."""
        out, err = _stream("strict"), _stream("backslashreplace")
        with (
            self._surroundings({**self.env, **(env or {})}, stdin),
            redirect_stdout(out),
            redirect_stderr(err),
            pytest.raises(SystemExit) as ended,
        ):
            main(list(args))
        return Done(int(ended.value.code or 0), _text(out), _text(err))

    def process(self, *args: str, env: Mapping[str, str] | None = None) -> Done:
        """Run it in a process of its own."""
        done = subprocess.run(
            [sys.executable, "-m", "llama_core", *args],
            capture_output=True,
            text=True,
            env={**self.env, **(env or {})},
            cwd=self.project,
            timeout=120,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def _surroundings(self, env: Mapping[str, str], stdin: bytes) -> Iterator[None]:
        """What a new process would find here and could change; afterwards all is as it was."""
        log = logging.getLogger("llama_core")
        with (
            patch.dict(os.environ, env, clear=True),
            pytest.MonkeyPatch.context() as changed,
        ):
            changed.chdir(self.project)
            changed.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), "utf-8"))
            changed.setattr(sys, "path", [*sys.path])
            changed.setattr(overlay, "_appended", None)
            changed.setattr(log, "handlers", [])
            changed.setattr(log, "propagate", True)
            with self.site.on_path():
                yield


def _stream(errors: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), "utf-8", errors, write_through=True)


def _text(stream: io.TextIOWrapper) -> str:
    """What was written, with line ends as a pipe that is read as text gives them."""
    stream.seek(0)
    return stream.read()


@pytest.fixture
def llama(tmp_path: Path) -> Llama:
    return Llama(tmp_path)


def lent(path: str) -> Any:
    """A module of another folder of tests, which is no package that this one could import."""
    file = Path(__file__).parents[1] / path
    spec = spec_from_file_location(f"lent_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model's folder. Tests copy it before they change it."""
    made: Path = lent("engine/tinymodel.py").tiny_model(tmp_path_factory.mktemp("model") / "tiny")
    return made


@pytest.fixture
def hub(llama: Llama, tiny: Path) -> Iterator[Any]:
    """A hub that has the small model as org/tiny, and a cache of its own."""
    server = lent("model/hubserver.py")
    files = {file.name: file.read_bytes() for file in tiny.iterdir()}
    with server.serving(server.Hub(files)) as running:
        home = {"HF_ENDPOINT": running.url, "HF_HOME": str(llama.root / "hf"), "HF_TOKEN": ""}
        llama.env |= {**home, "HF_HUB_CACHE": "", "HF_HUB_OFFLINE": "", "NO_PROXY": "127.0.0.1"}
        yield running


TRANSFORM = """
from llama_core import hookimpl

@hookimpl
def llama_create_transform(name, options):
    return lambda logits_NV, context: logits_NV
"""

COMMAND = '''
import click
from llama_core import hookimpl

@click.command("greet")
@click.option("--loud", is_flag=True)
def greet(loud):
    """Say hello."""
    click.echo("HELLO" if loud else "hello")

@hookimpl
def llama_add_command(name):
    return greet
'''


@pytest.fixture
def three(llama: Llama) -> Llama:
    """Three sample plugins: two that work, and one that needs a module which is not there."""
    provides = [{"kind": "transform", "name": "quiet", "api": 1, "summary": "Changes nothing"}]
    llama.site.add("quiet", {"provides": provides}, {"llama_plugin_quiet/__init__.py": TRANSFORM})
    provides = [{"kind": "command", "name": "greet", "api": 1, "summary": "Say hello."}]
    llama.site.add("greet", {"provides": provides}, {"llama_plugin_greet/__init__.py": COMMAND})
    provides = [{"kind": "backend", "name": "shaky", "api": 1, "priority": 90}]
    llama.site.add(
        "shaky",
        {"provides": provides},
        {"llama_plugin_shaky/__init__.py": "import no_such_module\n"},
    )
    return llama
