"""A postprocessor is fed a request's answer piece by piece and passes on what it lets through.

One object serves one request; it may hold text back until it has seen enough. Once it has passed on
a piece with `stop` it is not called again, and pieces behind that one are dropped. A piece is not
written to, nor is its `data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of an answer.

    A call of a tool begins with a piece of the channel `tool_call` whose data has its `index`, `id`
    and `name`; the texts of that channel from there on, put together, are its arguments in JSON.
    Data with `malformed` say why what looked like a call, or the arguments of one, cannot be read.
    """

    text: str = ""
    channel: str = "content"  # content, reasoning, tool_call
    data: Mapping[str, Any] = field(default_factory=dict)  # plain JSON
    stop: bool = False  # end the answer after this piece


@dataclass(slots=True)
class ToolCall:
    """One call of a tool, put together from its pieces."""

    id: str
    name: str
    arguments: str = ""  # JSON, unless it is malformed
    malformed: str | None = None  # why


def tool_calls(pieces: Iterable[Piece]) -> list[ToolCall]:
    """The calls in an answer, in their order."""
    calls: list[ToolCall] = []
    for piece in pieces:
        if piece.channel == "tool_call":
            if "name" in piece.data:
                calls.append(ToolCall(piece.data["id"], piece.data["name"]))
            if calls:
                calls[-1].arguments += piece.text
                calls[-1].malformed = piece.data.get("malformed", calls[-1].malformed)
    return calls


def channel(pieces: Iterable[Piece], name: str) -> str:
    """All text of one channel."""
    return "".join(piece.text for piece in pieces if piece.channel == name)


class Postprocessor(Protocol):
    """Raising `LlamaError` ends the request with that error; anything else is a fault."""

    def feed(self, piece: Piece) -> list[Piece]:
        """What may be passed on now."""

    def finish(self) -> list[Piece]:
        """The answer has ended: what was held back."""


class MarkedPostprocessor(Postprocessor, Protocol):
    """An optional power: a postprocessor that looks for special tokens, which texts leave out."""

    markers: Sequence[str]  # the special tokens that are to be in the text it is fed


SPEC: Spec[Postprocessor] = Spec("postprocessor", Postprocessor, "llama_create_postprocessor")
