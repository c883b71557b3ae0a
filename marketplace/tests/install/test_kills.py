"""Killed at any step of an install, an environment holds the old plugins or the new, whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from llama_marketplace.index.record import write

from ..wheels.making import Made
from .market import Market

pytestmark = pytest.mark.skipif(os.name == "nt", reason="nothing is killed on Windows")

PROGRAM = Path(__file__).with_name("killing.py")
NAME, OTHER = "llama-plugin-rhyme", "llama-plugin-reason"
OLD = {NAME: "1.0"}
NEW = {NAME: "2.0", OTHER: "1.0"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An environment with one plugin; the next version of it needs another one."""
    old, new = Market(tmp_path / "old"), Market(tmp_path / "new")
    old.publish(Made())
    new.publish(Made(version="2.0", requires=("llama-core>=0.1", OTHER)))
    new.publish(Made(plugin="reason"))
    for market in (old, new):
        lines = [write(each) for every in market.records.values() for each in every]
        market.folder.with_suffix(".records").write_bytes(b"\n".join(lines))
    return tmp_path


def killed(folder: Path, *steps: int | str) -> list[dict]:
    command = [sys.executable, str(PROGRAM), str(folder), *map(str, steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-3000:]
    for each in (folder / "home", folder / "before"):
        subprocess.run(["rm", "-rf", str(each)], check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check(one: dict) -> None:
    assert one["code"] == -9, one
    assert one["versions"] in (OLD, NEW), one
    assert one["problems"] == [], one
    assert (one["again"], one["after"]["versions"]) == (0, NEW), one
    assert (one["after"]["problems"], one["staging"]) == ([], False), one


def test_killed_at_some_steps(folder: Path) -> None:
    [whole] = killed(folder, "count")
    assert whole["code"] == 0
    count = whole["count"]
    assert count > 30  # an install of two plugins that does less is not watched
    steps = sorted({1, 2, count // 3, count // 2, *range(count - 7, count + 1)})
    results = killed(folder, *steps)
    for each in results:
        check(each)
    assert {len(each["versions"]) for each in results} == {1, 2}  # before the switch, and after


@pytest.mark.slow
def test_killed_at_every_step(folder: Path) -> None:
    [whole] = killed(folder, "count")
    for each in killed(folder, *range(1, whole["count"] + 1)):
        check(each)
