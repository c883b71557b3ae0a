"""The index that one command makes of the plugins here, used over HTTP as a stranger does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the Makefile's shell is POSIX's")

ROOT = Path(__file__).parents[1]
EVERY = sorted(str(each.parent.relative_to(ROOT)) for each in ROOT.glob("plugins/*/pyproject.toml"))
OUTER = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of the make that runs these tests
COMMAND = ("-m", "llama_core")


def run(*command: str | Path, env: dict[str, str], cwd: Path) -> str:
    done = subprocess.run(command, env=env, cwd=cwd, text=True, capture_output=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


class Stranger:
    """Somebody with an environment that has the core and the marketplace, and no plugin."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        self.home.mkdir()
        venv.create(folder / "env", with_pip=False)
        self.python = folder / "env" / "bin" / "python"
        packages = folder / "packages"
        packages.mkdir()
        for place in filter(lambda each: each.endswith("site-packages"), sys.path):
            for each in Path(place).iterdir():
                link = packages / each.name  # what comes first on the path is what is seen
                if not each.name.startswith(("llama_plugin", "_")) and not link.is_symlink():
                    link.symlink_to(each)
        paths = [packages, ROOT / "core" / "src", ROOT / "marketplace" / "src"]
        (site,) = (folder / "env").glob("lib/*/site-packages")
        (site / "below.pth").write_text("".join(f"{each}\n" for each in paths))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "XDG_", "PY"))}
        self.env = {**kept, "HOME": str(self.home)}

    def llama(self, *words: str) -> str:
        return run(self.python, *COMMAND, *words, env=self.env, cwd=self.home)

    def json(self, *words: str) -> Any:
        return json.loads(self.llama("marketplace", *words, "--json"))


@pytest.fixture
def stranger(tmp_path: Path) -> Stranger:
    return Stranger(tmp_path)


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Any]:
    """Serve an index, and stop."""
    servers = []

    def serve(index: Path) -> dict[str, str]:
        command = [sys.executable, *COMMAND, "marketplace", "serve", index, "--port", "0", "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        servers.append(server)
        text = ""
        while not text.endswith("}\n"):
            text += server.stdout.readline()
        return json.loads(text)

    yield serve
    for each in servers:
        each.terminate()
        each.communicate()


def made(folder: Path, *plugins: str) -> Path:
    """An index of these plugins, by the rule that `make index` follows for all."""
    settings = {"INDEX": folder / "index", "KEYS": folder / "keys", "INDEXER": sys.executable}
    told = [f"{name}={value}" for name, value in settings.items()]
    env = {name: value for name, value in os.environ.items() if name not in OUTER}
    run("make", "-C", ROOT, "index-of", *told, f"PLUGINS={' '.join(plugins)}", env=env, cwd=ROOT)
    return folder / "index"


def test_from_the_repository_to_a_plugin_in_use(
    tmp_path: Path, stranger: Stranger, serving: Any
) -> None:
    index = made(tmp_path, "plugins/model-tiny")
    told = serving(index)
    stranger.llama("marketplace", "indexes", "add", "here", told["url"], "--root", told["root"])
    (found,) = stranger.json("search", "tiny", "--verified")["plugins"]
    assert (found["name"], found["publisher"]) == ("llama-plugin-model-tiny", "llama-core")
    assert "model tiny" in stranger.llama("marketplace", "info", "model-tiny")
    stranger.llama("marketplace", "install", "model-tiny")
    assert stranger.json("verify")["problems"] == []
    assert stranger.llama("run", "tiny", "Once upon", "--max-tokens", "2")
    stranger.llama("marketplace", "uninstall", "model-tiny")
    assert "tiny" not in stranger.llama("plugins", "list")

    # Again: nothing has changed, and nothing is published twice.
    before = {each: each.read_bytes() for each in (index / "targets").rglob("*.json")}
    made(tmp_path, "plugins/model-tiny")
    assert {each: each.read_bytes() for each in (index / "targets").rglob("*.json")} == before


@pytest.mark.slow
@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_all_plugins_of_the_repository_conform_and_are_in_it(
    tmp_path: Path, stranger: Stranger, serving: Any
) -> None:
    told = serving(made(tmp_path, *EVERY))
    stranger.llama("marketplace", "indexes", "add", "here", told["url"], "--root", told["root"])
    found = stranger.json("search", "--all")["plugins"]
    assert sorted(each["plugin"] for each in found) == [Path(each).name for each in EVERY]
