"""Takes e-mail addresses and card numbers out of an answer while it streams.

Text is read character by character into runs that could hold one of them; a run is looked at when
it ends. So it does not matter how the answer was cut into pieces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from llama_core.contracts.postprocessor import Piece

MOST_HELD = 256  # no address that could be delivered is longer
_RUN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._%+-@")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})+")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")


class Redactor:
    """Serves one request."""

    def __init__(
        self, replacement: str = "[removed]", remove: Sequence[str] = ("email", "card")
    ) -> None:
        self.replacement = replacement
        self.remove = tuple(remove)
        self._run = ""
        self._channel = "content"

    def feed(self, piece: Piece) -> list[Piece]:
        if piece.channel == "tool_call":
            return [*self.finish(), piece]
        out = self.finish() if piece.channel != self._channel else []
        self._channel = piece.channel
        text = self._read(piece.text)
        if piece.data or piece.stop:  # it ends here, or something is said of this very place
            return [*out, replace(piece, text=text + self._ended())]
        return [*out, Piece(text, piece.channel)] if text else out

    def finish(self) -> list[Piece]:
        text = self._ended()
        return [Piece(text, self._channel)] if text else []

    def _read(self, text: str) -> str:
        """What can be passed on after these characters."""
        out = []
        for character in text:
            goes_on = character in _RUN or (character == " " and self._run[-1:].isdigit())
            if not goes_on or len(self._run) == MOST_HELD:
                out.append(self._ended())
            if goes_on:
                self._run += character
            else:
                out.append(character)
        return "".join(out)

    def _ended(self) -> str:
        run, self._run = self._run, ""
        if "email" in self.remove:
            run = _EMAIL.sub(lambda _: self.replacement, run)
        if "card" in self.remove:
            run = _CARD.sub(lambda found: self._card(found[0]), run)
        return run

    def _card(self, text: str) -> str:
        return self.replacement if is_card_number(text) else text


def is_card_number(text: str) -> bool:
    """Whether the last digit is right: every second digit from the right counts twice (Luhn)."""
    total = 0
    for place, digit in enumerate(int(each) for each in reversed(text) if each.isdigit()):
        twice = digit * (1 + place % 2)
        total += twice - 9 if twice > 9 else twice
    return total % 10 == 0
