"""An architecture turns a config into a graph. It names no backend and holds no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    from llama_core.model.graph import Graph


class Architecture(Protocol):
    """Named as the config's `model_type`."""

    def build(self, config: Mapping[str, Any]) -> Graph:
        """The graph; its weight names are the checkpoint's, made canonical by `rename`. A malformed
        config is a `LlamaError`."""

    def rename(self, tensor: str) -> str | None:
        """The canonical name of a checkpoint's tensor; None for one that is not needed."""


SPEC: Spec[Architecture] = Spec("architecture", Architecture, "llama_create_architecture")
