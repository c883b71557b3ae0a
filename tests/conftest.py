"""A generated model for the tests of what is run: its words mean nothing, and it is at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.engine.load import Loaded, load

from .running import ROOT, imported


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = imported(ROOT / "core" / "tests" / "engine" / "tinymodel.py")
    return tiny.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def model(folder: Path) -> Iterator[Loaded]:
    with load(folder, plugins=Plugins.load()) as loaded:
        yield loaded
