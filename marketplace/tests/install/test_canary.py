"""No code of a package runs outside of the child that tries it: not when an index is searched, a
wheel read, a plugin refused, listed, looked at, verified, taken back, or any Python started."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from llama_core import overlay
from llama_core.errors import LlamaError

from ..wheels.hostile import CODE, HOSTILE
from ..wheels.making import SOURCE, Made
from .conftest import Shop

NAME = "llama-plugin-rhyme"
TELLS = "import os, pathlib\npathlib.Path(os.environ['CANARY']).write_text('ran')\n"
# One for each way that code could be started by somebody who never asked for it.
AT_START = (
    "a .pth file", "a .pth file deep inside", "sitecustomize", "sitecustomize as a package",
    "usercustomize", "a module of Python's", "the core", "a foreign module", "a plugin of pytest",
    "a backend that torch loads", "up and out", "a file that the list does not name",
)  # fmt: skip


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CANARY", str(tmp_path / "canary"))
    return tmp_path / "canary"


@pytest.mark.parametrize("what", AT_START)
def test_a_hostile_wheel_that_was_signed_runs_nothing(shop: Shop, canary: Path, what: str) -> None:
    record = shop.market.publish(Made())
    made, _ = HOSTILE[what]
    wheel = made.write(shop.market.folder)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    file = record.files[0].model_copy(update={"sha256": digest, "size": wheel.stat().st_size})
    shop.market.records[NAME] = [record.model_copy(update={"files": (file,)})]
    with pytest.raises(LlamaError):
        shop.install(NAME)
    assert shop.generations.current().number == overlay.NONE
    assert not canary.exists()


def test_an_installed_plugin_runs_when_it_is_used_and_not_before(
    shop: Shop, canary: Path, llama: object
) -> None:
    shop.market.publish(Made(source=TELLS + SOURCE))
    shop.install(NAME)  # this shop tries nothing in a child
    for command in (["plugins", "list"], ["plugins", "info", "rhyme"], ["marketplace", "list"],
                    ["marketplace", "verify"], ["doctor"], ["--help"]):  # fmt: skip
        done = llama(*command)  # type: ignore[operator]
        assert done.returncode in (0, 1), done.stderr
        assert not canary.exists(), command
    subprocess.run([sys.executable, "-c", "import llama_core.plugins"], check=True)
    assert shop.problems() == []
    assert not canary.exists()
    assert llama("plugins", "doctor", "rhyme").returncode == 0  # type: ignore[operator]
    assert canary.exists()


def test_what_lies_in_a_generation_by_other_means_is_not_run_either(
    shop: Shop, canary: Path, llama: object
) -> None:
    shop.market.publish(Made())
    new = shop.install(NAME)
    site = shop.generations.folder(new.number) / overlay.PACKAGES
    for name in ("evil.pth", "sitecustomize.py", "usercustomize.py", "json.py", "click.py"):
        (site / name).write_bytes(CODE if name.endswith(".py") else b"import json; exec(open('x'))")
    assert llama("plugins", "list").returncode == 0  # type: ignore[operator]
    assert not canary.exists()
    assert len([each for each in shop.problems() if "belongs to nothing" in each]) == 5
