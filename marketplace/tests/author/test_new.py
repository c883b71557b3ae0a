"""`llama plugins new`: what it asks, what it refuses, and that it does nothing by halves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from llama_marketplace.author import new, render

from .rendering import llama


def ask(*words: str, typed: str = "") -> Result:
    return CliRunner().invoke(new.new, list(words), input=typed)


def test_it_says_what_it_made_and_what_to_do_next(tmp_path: Path) -> None:
    code, said = llama("plugins", "new", "sampler", "near-top", at=tmp_path)
    assert code == 0
    folder = tmp_path / "llama-plugin-near-top"
    assert (folder / "src" / "llama_plugin_near_top" / "sigma.py").is_file()
    assert "llama plugins check" in said
    assert "src/llama_plugin_near_top/plugin.toml" in said
    code, said = llama("plugins", "new", "command", "size", "--json", at=tmp_path)
    facts = json.loads(said)
    assert code == 0
    assert Path(facts["folder"]) == tmp_path / "llama-plugin-size"
    assert sorted(facts["files"]) == sorted(
        path.relative_to(facts["folder"]).as_posix()
        for path in Path(facts["folder"]).rglob("*")
        if path.is_file()
    )


@pytest.mark.skipif(shutil.which("bash") is None, reason="a POSIX shell script is run here")
def test_the_workflow_installs_no_core_that_nobody_chose(tmp_path: Path) -> None:
    """By its name alone it could be anybody's: whoever has that name on the package index."""
    assert ask("sampler", "shy", "--yes", "--folder", str(tmp_path / "shy")).exit_code == 0
    text = (tmp_path / "shy" / ".github" / "workflows" / "test.yml").read_text()
    steps = text.split("    steps:\n")[1]
    installs = [line for line in steps.splitlines() if "pip install" in line]
    assert [line.split("pip install ")[1] for line in installs] == [
        '"${wanted[@]}"', '-e ".[testing]"',
    ]  # fmt: skip
    script = textwrap.dedent(steps.split("run: |\n")[1].split("      - run:")[0])
    said = tmp_path / "said"
    (tmp_path / "python").write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {said}\n')
    (tmp_path / "python").chmod(0o755)
    env = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    command = ["bash", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert (done.returncode, said.exists()) == (1, False)
    assert "Set the variable LLAMA_CORE" in done.stdout
    env["LLAMA_CORE"] = "git+https://git.example/core@1f#subdirectory=core *"
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert said.read_text() == "-m|pip|install|git+https://git.example/core@1f#subdirectory=core|*|"
    readme = (tmp_path / "shy" / "README.md").read_text()
    assert "`LLAMA_CORE`" in readme


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "README.md").write_text("my own")
    for words in ((str(mine),), (str(mine / "README.md"),)):
        done = ask("drafter", "mine", "--yes", "--folder", *words)
        assert done.exit_code == 1
        assert isinstance(done.exception, Exception)
        assert "--folder" in str(done.exception)
    assert [path.name for path in mine.iterdir()] == ["README.md"]
    assert (mine / "README.md").read_text() == "my own"


def test_an_empty_folder_is_filled_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert ask("drafter", "mine", "--yes", "--folder", ".").exit_code == 0
    assert (tmp_path / "pyproject.toml").is_file()
    assert not [path.name for path in Path().iterdir() if path.name.startswith(".new-")]


def test_a_project_that_cannot_be_written_whole_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(render.os, "replace", full)
    done = ask("drafter", "mine", "--yes", "--folder", str(tmp_path / "mine"))
    assert "No space left on device" in str(done.exception)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("My-Plugin", "small letters"),
        ("9lives", "small letters"),
        ("a--b", "small letters"),
        ("a-", "small letters"),
        ("../up", "small letters"),
        ("a" * 31, "30 at most"),
        ("llama-plugin-mine", "say only 'mine'"),
    ],
)
def test_names_that_cannot_be_are_refused(tmp_path: Path, name: str, why: str) -> None:
    done = ask("sampler", name, "--yes", "--folder", str(tmp_path / "x"))
    assert done.exit_code == 2
    assert why in " ".join(done.output.split())
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("summary", ["", "two\nlines", "\u202ereversed", "half \udcff", "x" * 201])
def test_a_summary_is_one_line_of_text(tmp_path: Path, summary: str) -> None:
    done = ask("sampler", "x", "--yes", "--folder", str(tmp_path / "x"), "--summary", summary)
    assert done.exit_code == 2
    assert "one line" in done.output
    assert not (tmp_path / "x").exists()


def test_a_command_of_the_core_is_not_taken() -> None:
    done = ask("command", "run", "--yes")
    assert done.exit_code == 2
    assert "is a command of the core" in done.output


def test_an_unknown_kind_is_refused_with_those_there_are() -> None:
    done = ask("smapler", "x")
    assert done.exit_code == 2
    assert "'sampler'" in done.output


def test_on_a_terminal_it_asks_only_what_no_flag_has_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(new, "on_a_terminal", lambda: True)
    words = ("processor", "shy", "--folder", str(tmp_path / "shy"), "--summary", "Hides things")
    done = ask(*words, typed="Ada\nnowhere\nhttps://git.example/ada/shy\n")
    assert done.exit_code == 0, done.output
    assert "What does it do" not in done.output
    assert "give an address such as" in done.output
    text = (tmp_path / "shy" / "pyproject.toml").read_text()
    assert 'name = "Ada"' in text
    assert 'Repository = "https://git.example/ada/shy"' in text
    assert 'description = "Hides things"' in text


def test_without_a_terminal_it_asks_nothing(tmp_path: Path) -> None:
    done = ask("processor", "shy", "--folder", str(tmp_path / "shy"))
    assert done.exit_code == 0
    assert "?" not in done.output


def test_help_says_what_every_kind_makes() -> None:
    done = ask("--help")
    assert done.exit_code == 0
    for kind in ("native-backend", "parallelism", "route"):
        assert f"\n    {kind} " in done.output
    assert "guesses the next tokens" in done.output
