"""The workflows run elsewhere; here it is checked that they can, and that they are careful."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / ".github" / "workflows"
FILES = sorted(FOLDER.glob("*.yml"))
PINNED = re.compile(r"uses: (\$/\S+|[\w./-]+@[0-9a-f]{40} # v\d+(\.\d+)*)$")


def unpinned(text: str) -> list[str]:
    lines = [line.strip().removeprefix("- ") for line in text.splitlines()]
    return [line for line in lines if line.startswith("uses:") and not PINNED.fullmatch(line)]


def test_the_expected_workflows_are_there() -> None:
    assert {file.stem for file in FILES} == {"lint", "test", "wheels", "publish"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_action_is_pinned_by_digest(file: Path) -> None:
    assert unpinned(file.read_text()) == []


def test_a_tag_is_not_a_pin() -> None:
    assert unpinned("  - uses: actions/checkout@v4\n") == ["uses: actions/checkout@v4"]


def test_they_fit_the_schema() -> None:
    command = ["check_jsonschema", "--builtin-schema", "vendor.github-workflows", *map(str, FILES)]
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_an_auditor_finds_nothing() -> None:
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run([zizmor, "--offline", FOLDER], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
