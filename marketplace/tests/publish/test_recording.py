"""Which tests a wheel is tried with before it is published."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from llama_marketplace.publish.recording import projects, try_out
from llama_marketplace.wheels import inspect

from llama_core.errors import LlamaError

from ..wheels.making import Made

NAME = "llama-plugin-rhyme"
PROJECT = f'[project]\nname = "{NAME}"\n[project.entry-points.llama_core]\nrhyme = "rhyming"\n'
MANIFEST = 'name = "rhyme"\nsummary = "x"\n[[provides]]\nkind = "transform"\nname = "x"\napi = 1\n'
SUITE = "def test_what_only_its_author_knows() -> None:\n    assert 'told' == 'known'\n"


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A project's file of tests, of which one fails."""
    package = tmp_path / "project" / "src" / "rhyming"
    package.mkdir(parents=True)
    (package / "plugin.toml").write_text(MANIFEST)
    (tmp_path / "project" / "pyproject.toml").write_text(PROJECT)
    file = tmp_path / "project" / "tests" / "deep" / "test_contract.py"
    file.parent.mkdir(parents=True)
    file.write_text(SUITE)
    return file


def test_a_project_s_own_suite_is_run_and_says_what_it_found(suite: Path, tmp_path: Path) -> None:
    wheel = inspect(Made().write(tmp_path / "dist"))
    found = projects([suite])
    assert found == {NAME: (tmp_path / "project", suite)}
    with pytest.raises(LlamaError, match=r"test_what_only_its_author_knows.*'told' == 'known'"):
        try_out(wheel, datetime.now(UTC), found[NAME])


def test_a_file_of_no_project_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LlamaError, match="lies in no project"):
        projects([tmp_path / "test_contract.py"])
