"""Paths that a command writes at its end: told at its beginning where nothing can be written."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click
import pytest

from llama_core.cli.files import NewFile, write_text
from llama_core.errors import LlamaError


@click.command()
@click.option("--to", type=NewFile())
def command(to: Path) -> None:
    """What a command with such an option gets."""


def given(path: object) -> Path:
    with command.make_context("command", ["--to", str(path)]) as context:
        found = context.params["to"]
    assert isinstance(found, Path)
    return found


def refusal(path: object) -> str:
    with pytest.raises(click.BadParameter) as caught:
        given(path)
    return caught.value.message


def test_a_new_file_is_tried_and_not_left_behind(tmp_path: Path) -> None:
    assert given(tmp_path / "new.json") == tmp_path / "new.json"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_keeps_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "old.json").write_text("kept")
    given(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "kept"


def test_where_no_file_can_be_is_said(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} is a folder"
    assert refusal(tmp_path / "no" / "new.json") == f"there is no folder {tmp_path / 'no'}"
    (tmp_path / "file").touch()
    assert refusal(tmp_path / "file" / "new.json") == f"there is no folder {tmp_path / 'file'}"
    assert "cannot be written: File name too long" in refusal(tmp_path / ("x" * 300))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc")
def test_a_folder_that_lets_nobody_make_files_is_seen_whatever_its_rights_say() -> None:
    assert refusal("/proc/x.json").startswith("/proc/x.json cannot be written: ")


def test_a_file_that_nobody_may_write_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "old.json"
    path.touch()
    monkeypatch.setattr(os, "access", lambda *_: False)  # who is root may write everything
    assert refusal(path) == f"{path} cannot be written"


def test_a_disk_that_filled_up_meanwhile_is_one_line(tmp_path: Path) -> None:
    path = given(tmp_path / "new.json")
    path.mkdir()
    with pytest.raises(LlamaError, match=r"cannot write .*new\.json: Is a directory"):
        write_text(path, "{}")
