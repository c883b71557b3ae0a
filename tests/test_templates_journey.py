"""From `llama plugins new` to a plugin that is used by name, as an author goes.

Two templates go all the way in every run, all ten among the slow tests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from .running import ROOT, imported

pytest.importorskip("llama_marketplace", reason="llama-marketplace is not installed")

from llama_marketplace.author import building, kinds, surroundings

rendering = imported(ROOT / "marketplace" / "tests" / "author" / "rendering.py")
TEN, rendered, checked, llama = (
    rendering.TEN,
    rendering.rendered,
    rendering.checked,
    rendering.llama,
)
USED = ("sampler", "model")
needs_cmake = pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake is here")


def installed(wheel: Path, place: Path) -> Path:
    """A fresh environment in which pip has installed the wheel; our own lends what it needs."""
    venv.create(place, symlinks=os.name != "nt", with_pip=False)
    python = surroundings.python_of(place)
    command = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "-q", wheel]
    subprocess.run(command, check=True)
    surroundings.lend(place, ())
    return python


def state(python: Path, plugin: str) -> dict[str, object]:
    code, said = llama("plugins", "list", "--json", python=python)
    assert code == 0
    return next(one for one in json.loads(said)["plugins"] if one["name"] == plugin)


@pytest.mark.parametrize("kind", USED)
def test_a_new_plugin_conforms_and_is_used(tmp_path: Path, kind: str) -> None:
    folder = rendered(kind, tmp_path / "project", f"fresh-{kind}")
    code, facts = checked(folder, "--no-isolation")
    assert code == 0, facts
    assert facts["plugin"] == f"fresh-{kind}"
    assert all(one["passed"] == one["rules"] for one in facts["conformance"])
    wheel = building.build(folder, tmp_path / "dist", isolated=False)
    python = installed(wheel, tmp_path / "env")
    assert state(python, f"fresh-{kind}")["state"] == "ready"
    if kind == "model":
        words = ("run", "fresh-model", "q", "--max-tokens", "1", "--json")
        code, said = llama(*words, "--backend", "reference", python=python)
        assert code == 0, said
        assert json.loads(said)["text"] == "u"
    else:
        assert llama("plugins", "doctor", f"fresh-{kind}", python=python)[0] == 0


def test_a_wheel_alone_is_tried_with_the_bare_suites(tmp_path: Path) -> None:
    folder = rendered("parallelism", tmp_path / "project")  # one of its options is required
    wheel = building.build(folder, tmp_path / "dist", isolated=False)
    code, facts = checked(wheel)
    assert code == 0, facts
    assert [each["name"] for each in facts["steps"]] == ["wheel", "conformance"]
    [verdict] = facts["conformance"]
    assert verdict["rules"] == verdict["passed"] + len(verdict["skipped"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=needs_cmake if "native" in each else ()) for each in TEN]
)
def test_every_template_conforms_from_its_first_minute(tmp_path: Path, kind: str) -> None:
    folder = rendered(kind, tmp_path / "project")
    code, facts = checked(folder)
    assert code == 0, facts
    [verdict] = facts["conformance"]
    assert verdict["kind"] == kinds.kinds()[kind].provides
    assert verdict["passed"] == verdict["rules"] > 10
    wheel = building.build(folder, tmp_path / "dist")
    python = installed(wheel, tmp_path / "env")
    assert state(python, f"my-{kind}")["state"] == "ready"
    assert llama("plugins", "doctor", f"my-{kind}", python=python)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sampler", "model"])
def test_a_project_installed_in_place_is_tried_as_a_wheel(tmp_path: Path, kind: str) -> None:
    """What lies in the environment for development must not be what is tried."""
    folder = rendered(kind, tmp_path / "project")
    env = tmp_path / "env"
    venv.create(env, symlinks=os.name != "nt", with_pip=False)
    python = surroundings.python_of(env)
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "-q", "-e"]
    subprocess.run([*pip, folder], check=True)
    surroundings.lend(env, ())
    code, said = llama("plugins", "check", folder, "--json", python=python)
    assert code == 0, said
    assert json.loads(said)["passed"]
