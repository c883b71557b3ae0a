"""A tiny model for the facade, and sites of plugins for what the core alone does not provide."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from llama_core.plugins import Plugins
from llama_core.testing.site import Site


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Path(__file__).parents[1] / "engine" / "tinymodel.py"
    spec = spec_from_file_location("tinymodel", source)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def plugins(site: Site) -> Iterator[Plugins]:
    """The builtins, and what the test puts into its site before it asks for them."""
    with site.plugins() as plugins:
        yield plugins
