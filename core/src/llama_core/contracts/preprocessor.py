"""A preprocessor sees a request before it is tokenized, and may change or refuse it.

One object serves one request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked: plain text, or messages that a chat template will turn into text."""

    text: str | None = None
    messages: Sequence[Mapping[str, Any]] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Preprocessor(Protocol):
    """Raising `LlamaError` refuses the request with that error; anything else is a fault."""

    def __call__(self, prompt: Prompt) -> Prompt:
        """The prompt to go on with."""


SPEC: Spec[Preprocessor] = Spec("preprocessor", Preprocessor, "llama_create_preprocessor")
