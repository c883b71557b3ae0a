"""The tiers to test, and the module beside the tests that they are written in."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Every tier that runs here, in turn; `test_every_tier_is_tested` names those that do not."""
    if "tier" in metafunc.fixturenames:
        from llama_plugin_cpu import native

        metafunc.parametrize("tier", native.running_tiers())
