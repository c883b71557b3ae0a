from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `specimens`, which several files share


@pytest.fixture(scope="session")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> object:
    """What came of every suite on every specimen; one session for all, starting one is slow."""
    from specimens import harness, shared

    from llama_core.testing import Site

    site = Site(tmp_path_factory.mktemp("site"))
    shared.install(site)
    return harness.run(tmp_path_factory.mktemp("run"), site)
