"""`make chat` hands over what was typed, and says in one line what is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the Makefile's shell is POSIX's")

ROOT = Path(__file__).parents[1]
WEIGHTS = "plugins/model-tiny/src/llama_plugin_model_tiny/model/model.safetensors"
LLAMA = """#!/bin/sh
for each in "$@"; do printf '<%s>' "$each"; done
"""
STORY = "Tell me a story about a fox."
OUTER = ("PROMPT", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")  # of the make that runs these tests


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout that is set up, with a `llama` that says what it was told."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    needed = ["core", "plugins/cpu", "plugins/model-tiny"]
    files = [f"{each}/pyproject.toml" for each in needed] + ["constraints.txt", WEIGHTS]
    for name in [*files, ".venv/.chat"]:  # the last is the newest
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    llama = tmp_path / ".venv" / "bin" / "llama"
    llama.parent.mkdir()
    llama.write_text(LLAMA)
    llama.chmod(0o755)
    return tmp_path


def make(tree: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name not in OUTER}
    return subprocess.run(
        ["make", *arguments], cwd=tree, env=env, input=stdin, capture_output=True, text=True
    )


@pytest.mark.parametrize("prompt", ["Spell FOX.", "a $b \"c\" 'd' `e` $(f) \\g; h", "-h"])
def test_a_prompt_reaches_the_model_as_it_was_typed(tree: Path, prompt: str) -> None:
    done = make(tree, "chat", f"PROMPT={prompt}")
    assert done.stdout == f"<chat><tiny><--prompt><{prompt}>"


def test_what_is_piped_is_asked(tree: Path) -> None:
    assert make(tree, "chat", stdin="Hi!\n").stdout == "<chat><tiny><--prompt><Hi!>"


def test_where_nobody_can_ask_a_story_is_told(tree: Path) -> None:
    assert make(tree, "chat").stdout == f"<chat><tiny><--prompt><{STORY}>"


def test_a_missing_model_is_one_line_and_installs_nothing(tree: Path) -> None:
    (tree / WEIGHTS).unlink()
    shutil.rmtree(tree / ".venv")
    done = make(tree, "chat")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "the model 'tiny' is not in this checkout" in line
    assert "plugins/model-tiny/recipe/README.md" in line
    assert not (tree / ".venv").exists()
