"""A postprocessor is fed a request's answer piece by piece and passes on what it lets through.

One object serves one request; it may hold text back until it has seen enough. After a piece with
`stop` neither `feed` nor `finish` is called again, and pieces behind it are dropped. A piece is not
written to, nor is its `data`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer."""

    text: str = ""
    channel: str = "content"  # content, reasoning, tool_call
    data: Mapping[str, Any] = field(default_factory=dict)
    stop: bool = False  # end the answer after this piece


class Postprocessor(Protocol):
    """Raising `LlamaError` ends the request with that error; anything else is a fault."""

    def feed(self, piece: Piece) -> list[Piece]:
        """What may be passed on now."""

    def finish(self) -> list[Piece]:
        """The answer has ended: what was held back."""


SPEC: Spec[Postprocessor] = Spec("postprocessor", Postprocessor, "llama_create_postprocessor")
