"""The conformance suite, for the model that the wheel carries."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_core.testing import ModelContract

SCORES = Path(__file__).parents[1] / "recipe" / "run" / "scores.json"
PATHS = ("test_path_is_there", "test_path_stays", "test_a_format_opens_it")


class TestTiny(ModelContract):
    provides = "tiny"

    @pytest.fixture(autouse=True)
    def trained(self, request: pytest.FixtureRequest) -> None:
        """Until a run is kept, the rules of what lies at the path have nothing to look at; what is
        said then has a test of its own."""
        if request.function.__name__ in PATHS and not SCORES.is_file():
            pytest.skip("the bundled model has not been trained yet")
