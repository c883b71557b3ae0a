"""One answer of a chat: shown while it comes, and then known as a whole. Knows no commands."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import click

from llama_core.cli.named import used
from llama_core.contracts.postprocessor import Piece, channel, tool_calls
from llama_core.engine.faces import Choice, Result

if TYPE_CHECKING:
    from llama_core.engine.conversation import Conversation, Turn
    from llama_core.engine.load import Loaded

# A terminal obeys what it is sent, and a model sends what it likes: escapes are shown, not obeyed.
_VISIBLE = {n: chr(0x2400 + n) for n in range(32) if n not in (9, 10)}
_VISIBLE |= {127: "\u2421", **dict.fromkeys(range(128, 160), "\ufffd")}


class Screen:
    """Shows pieces: the answer plainly, reasoning dim, calls of tools as calls.

    Where nobody looks on, reasoning is left out, and nothing is dim or escaped.
    """

    def __init__(self, *, terminal: bool) -> None:
        self.terminal = terminal
        self._channel = ""
        self._at_start = True  # of a line

    def show(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            if piece.channel == "reasoning" and not self.terminal:
                continue
            begins = piece.channel == "tool_call" and "name" in piece.data
            if begins or (piece.text and piece.channel != self._channel):
                self._change(piece.channel)
            if begins:
                self._write(f"→ {piece.data['name']} ", dim=True)
            self._write(piece.text, dim=piece.channel == "reasoning")
            if "malformed" in piece.data and self.terminal:
                self._write(f" [malformed: {piece.data['malformed']}] ", dim=True)

    def interrupted(self) -> None:
        """The terminal has written its ^C."""
        self._at_start = False

    def end(self, note: str = "") -> None:
        """The answer is over; a note follows on a terminal only."""
        if not self._at_start or not self.terminal:
            click.echo()
        if note and self.terminal:
            click.secho(f"[{note}]", dim=True)

    def _change(self, channel: str) -> None:
        if self._channel and not self._at_start:
            self._write("\n")
        self._channel = channel

    def _write(self, text: str, dim: bool = False) -> None:
        if not text:
            return
        self._at_start = text.endswith("\n")
        if self.terminal:
            text = text.translate(_VISIBLE)
        click.echo(click.style(text, dim=True) if dim and self.terminal else text, nl=False)


@dataclass(slots=True)
class Answered:
    """An answer, whole or as far as it came."""

    turn: Turn
    choice: Choice = field(default_factory=Choice)
    first_seconds: float = 0.0
    seconds: float = 0.0
    interrupted: bool = False  # by the user

    @property
    def num_tokens(self) -> int:
        return len(self.choice.tokens)

    @property
    def tokens_per_second(self) -> float | None:
        """From the question to the end: several tokens may arrive at once, the first ones too."""
        return self.num_tokens / self.seconds if self.num_tokens and self.seconds > 0 else None

    def note(self, context_length: int) -> str:
        """In a line, for people."""
        said = [f"{self.num_tokens} tokens"]
        if self.tokens_per_second is not None:
            said.append(f"{self.tokens_per_second:.1f} tokens/s with the prompt")
        if self.num_tokens:
            said.append(f"first after {self.first_seconds:.2f} s")
        usage = self.choice.usage
        if usage is not None:
            said.append(f"prompt {usage.prompt_tokens}, {usage.cached_tokens} of it cached")
        if self.interrupted:
            said.append("stopped")
        elif self.choice.finish == "length":
            full = len(self.turn.request.prompt) + self.num_tokens >= context_length
            why = f"the context of {context_length} is full" if full else "max_tokens was reached"
            said.append(f"cut off: {why}")
        return ", ".join(said)

    def facts(self, conversation: Conversation) -> dict[str, Any]:
        """As one object, for machines."""
        choice, loaded = self.choice, conversation.loaded
        return {
            "text": choice.text,
            "reasoning": channel(choice.pieces, "reasoning") or None,
            "tool_calls": [asdict(call) for call in tool_calls(choice.pieces)],
            "finish": "cancelled" if self.interrupted else choice.finish,
            "model": loaded.name,
            "backend": {
                "kind": loaded.choice.kind,
                "name": loaded.choice.name,
                "reason": loaded.choice.reason,
            },
            "used": used(loaded, self.turn.request.params, conversation.preprocessors),
            "left_out_turns": self.turn.num_left_out,
            "usage": asdict(choice.usage) if choice.usage else None,
            "seconds": {
                "load": loaded.load_seconds,
                "first_token": self.first_seconds,
                "total": self.seconds,
            },
        }


def answer(loaded: Loaded, turn: Turn, screen: Screen | None) -> Answered:
    """Run a turn; ctrl-C ends the answer, and what there is of it is given."""
    found, result = Answered(turn), Result(turn.request.id)
    began = time.monotonic()
    try:
        with closing(loaded.engine.stream(turn.request)) as updates:
            for update in updates:
                found.first_seconds = found.first_seconds or time.monotonic() - began
                result.add(update)
                if screen is not None:
                    screen.show(update.pieces)
    except KeyboardInterrupt:
        found.interrupted = True
        if screen is not None:
            screen.interrupted()
    found.seconds = time.monotonic() - began
    if result.choices:
        found.choice = result.choices[0]
    if screen is not None and (found.choice.pieces or found.choice.error is None):
        screen.end(found.note(loaded.context_length))
    if found.choice.error is not None:
        raise found.choice.error
    return found
