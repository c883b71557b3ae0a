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
from typing import Any

import pytest

from .running import ROOT, TRAINED, imported

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
# By kind: the option of `llama run` that uses what its template provides.
FLAGS = {
    "backend": "--backend",
    "native-backend": "--backend",
    "sampler": "--sampler",
    "processor": "--postprocessor",
    "drafter": "--drafter",
}
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


def answer(python: Path, *words: str) -> dict[str, Any]:
    """What a small model says, by the new plugins that the words name."""
    prompt = "one two one two one two one"
    code, said = llama(
        "run", TRAINED, prompt, "--max-tokens", "24", "--json", *words, python=python
    )
    assert code == 0, said
    return json.loads(said)


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


def test_new_plugins_are_used_by_name_in_one_command(tmp_path: Path) -> None:
    for kind in ("sampler", "processor", "drafter"):
        folder = rendered(kind, tmp_path / kind, f"fresh-{kind}")
        wheel = building.build(folder, tmp_path / f"dist-{kind}", isolated=False)
        python = installed(wheel, tmp_path / "env")
    plain = answer(python, "--backend", "reference")
    assert plain["used"]["drafter"] is None
    words = ("--sampler", "fresh-sampler:n=0.001", "--drafter", "fresh-drafter:shortest=1")
    text = ("--postprocessor", 'fresh-processor:remove=["card"]', "--seed", "1")
    facts = answer(python, "--backend", "reference", *words, *text)
    assert facts["tokens"] == plain["tokens"], "so few deviations leave the likeliest alone"
    used = facts["used"]
    assert used["drafter"]["accepted_tokens"] > 0
    assert used["sampler"]["plugin"] == "fresh-sampler"
    assert used["postprocessors"] == [
        {"name": "fresh-processor", "plugin": "fresh-processor", "options": {"remove": ["card"]}}
    ]
    wrong = ("--postprocessor", "fresh-procesor")
    code, said = llama("run", TRAINED, "x", *wrong, python=python)
    assert (code, "Did you mean 'fresh-processor'?" in said) == (1, True)


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
    if kind in FLAGS:
        facts = answer(python, FLAGS[kind], f"my-{kind}")
        assert facts["tokens"]
        assert f'"my-{kind}"' in json.dumps([facts["backend"], facts["used"]])


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
