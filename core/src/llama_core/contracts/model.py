"""A model plugin carries a model's files, so that `llama run NAME` works without a download."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from llama_core.contracts.spec import Spec


class ModelSource(Protocol):
    """Says where the model lies; a format reads it."""

    def path(self) -> Path:
        """A folder or file that one of the formats opens."""


SPEC: Spec[ModelSource] = Spec("model", ModelSource, "llama_open_model")
