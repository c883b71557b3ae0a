"""A format reads and writes model files: a folder of safetensors, a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    from llama_core.model.weights import Weights


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """What was found in a model's files. `config` is in the words of Hugging Face's config.json."""

    path: Path
    format: str
    config: Mapping[str, Any]
    weights: Weights
    generation: Mapping[str, Any] = field(default_factory=dict)
    # `kind` (huggingface, sentencepiece, gguf), then `path` or `metadata`, `config`, `templates`
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    chat_template: str | None = None


class Format(Protocol):
    """Reads lazily: opening maps files and checks them, it does not read the tensors.

    Weights bear the checkpoint's names, as Hugging Face writes them; an architecture makes them
    canonical. Numbers of the config may have been through float32.
    """

    def detects(self, path: Path) -> bool:
        """Whether the path looks like one of ours, by name and first bytes only; never raises."""

    def open(self, path: Path) -> ModelFiles:
        """The model, or one error that lists all that is wrong with the files."""

    def save(self, files: ModelFiles, path: Path) -> None:
        """Write a new model at a path where there is none yet."""


SPEC: Spec[Format] = Spec("format", Format, "llama_create_format")
