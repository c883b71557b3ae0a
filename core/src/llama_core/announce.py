"""Nothing falls back in silence: said once, counted always, and an error under `strict`."""

from __future__ import annotations

import logging
from collections import Counter

from llama_core.errors import StrictError

log = logging.getLogger("llama_core")


class Announcements:
    """What was decided by rule rather than by the user, and how often."""

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.counts: Counter[str] = Counter()
        self._said: dict[str, object] = {}

    def fallback(self, message: str, *, remedy: str | None = None) -> None:
        """Tell of a fallback about to be taken."""
        if self.strict:
            raise StrictError(f"strict mode forbids this fallback: {message}", remedy=remedy)
        self.note(message, remedy=remedy)

    def note(self, message: str, *, remedy: str | None = None) -> None:
        """Tell of something a user should know that is no fallback."""
        text = f"{message.rstrip('.')}. {remedy}" if remedy else message
        self.counts[text] += 1
        mine = object()
        if self._said.setdefault(text, mine) is mine:  # one step: no lock for a fork to leave held
            log.warning("%s", text)
