"""Publishing again: what is new is told from what was there."""

from __future__ import annotations

from pathlib import Path

import pytest
from llama_marketplace.publish import recording
from operating import Operator

from ..wheels.making import SOURCE, Made
from .test_operating import Shell, shell

__all__ = ["shell"]  # the fixture
NAME = "llama-plugin-rhyme"


def test_what_was_published_before_is_told_from_what_is_new(
    shell: Shell, operator: Operator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "try_out", lambda *of: [])  # what is found is no matter here
    at = ("--publisher", "acme", "--with-wheels", "--index", operator.folder, "--keys",
          operator.keys)  # fmt: skip
    old = Made().write(tmp_path / "dist")
    (first,) = shell("publish", old, *at)["published"]
    assert (first["files"], first["before"]) == ([old.name], [])
    said, _ = shell.says("publish", old, *at)
    assert said == f"{NAME} 1.0 was in {operator.folder} before, with the same bytes: {old.name}"

    new = Made(version="1.1").write(tmp_path / "dist")
    both = shell("publish", old, new, *at)["published"]
    assert [(e["files"], e["before"]) for e in both] == [([], [old.name]), ([new.name], [])]

    linux = Made(tag="py3-none-manylinux_2_28_x86_64").write(tmp_path / "dist")
    said, _ = shell.says("publish", old, linux, *at)
    assert (
        f"{NAME} 1.0 is published by acme in {operator.folder}: {linux.name}; there before" in said
    )
    assert said.endswith(f"with the same bytes: {old.name}")

    other = Made(source=SOURCE + "# changed\n").write(tmp_path / "other")
    said = shell.fails("publish", other, *at)
    assert "is published already, with other content" in said
    assert "publish a new one" in said
