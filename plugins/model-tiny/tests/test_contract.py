"""The conformance suite, for the model that the wheel carries."""

from __future__ import annotations

from llama_core.testing import ModelContract


class TestTiny(ModelContract):
    provides = "tiny"
