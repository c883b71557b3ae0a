"""Finds stop strings in a text that arrives in pieces, and holds back what may become one.

How the text is cut into pieces changes nothing: the string that is complete first wins, and of two
that are complete at once the longer. It knows no tokens.
"""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """One request's stop strings and the end of its text so far."""

    def __init__(self, strings: Sequence[str], include: bool = False) -> None:
        self.strings = tuple(strings)
        self.include = include
        self.found: str | None = None
        self._held = ""

    def feed(self, text: str) -> str:
        """What may be passed on now; after `found` is set, nothing more comes."""
        if self.found is not None:
            return ""
        text = self._held + text
        best: tuple[int, int] | None = None
        for stop in self.strings:
            start = text.find(stop)
            if start >= 0 and (best is None or (start + len(stop), start) < best):
                best = (start + len(stop), start)
                self.found = stop
        if best is not None:
            self._held = ""
            return text[: best[0] if self.include else best[1]]
        hold = max((_overlap(text, stop) for stop in self.strings), default=0)
        self._held = text[len(text) - hold :]
        return text[: len(text) - hold]

    def finish(self) -> str:
        """The text has ended: what was held back after all."""
        held, self._held = self._held, ""
        return held


def _overlap(text: str, stop: str) -> int:
    """How long the longest end of the text is that begins the stop string."""
    for length in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:length]):
            return length
    return 0
