"""Reads an answer that arrives in pieces as if it were whole: what parsers of answers are made of.

A parser is one generator, `read`, that goes through the text from its beginning and pauses where it
needs more. It decides on nothing but the text before it, so how the text was cut changes nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from llama_core.contracts.postprocessor import Piece

T = TypeVar("T")
Reading = Generator[None, None, T]  # pauses for more text, and gives a T in the end


class Reader(ABC):
    """A postprocessor that reads the content of an answer; other channels pass it by."""

    def __init__(self) -> None:
        self.text = ""  # what has arrived and may still be looked at
        self.at = 0  # what lies before it has been read
        self.ended = False
        self._over = False  # `read` has read what it wanted; the rest is passed on
        self.kept = False  # whether what has been read may yet be read again
        self.gap = ""  # the white space before the last marker
        self._out: list[tuple[str, Mapping[str, Any], list[str]]] = []
        self._reading = self._whole()

    @abstractmethod
    def read(self) -> Reading[None]:
        """Read the answer; what it leaves unread is passed on as content."""

    def feed(self, piece: Piece) -> list[Piece]:
        if piece.channel != "content":
            return [piece]
        if self._over and not self.text:
            return [piece]
        if piece.data:
            self.give("", **piece.data)
        self.text += piece.text
        self._go_on()
        if not piece.stop:
            return self._given()
        pieces = self.finish()
        return [*pieces[:-1], replace(pieces[-1], stop=True)] if pieces else [Piece(stop=True)]

    def finish(self) -> list[Piece]:
        self.ended = True
        self._go_on()
        return self._given()

    # ---- what `read` is written with ----------------------------------------------------------

    def give(self, text: str, channel: str = "content", **data: Any) -> None:
        """Pass on a part of the answer."""
        if data or not self._out or self._out[-1][0] != channel:
            self._out.append((channel, data, []))
        self._out[-1][2].append(text)

    def peek(self) -> Reading[str]:
        """The next character; none at the end."""
        while self.at == len(self.text) and not self.ended:
            yield from self._more()
        return self.text[self.at : self.at + 1]

    def space(self) -> Reading[str]:
        """Read white space."""
        found = ""
        while (char := (yield from self.peek())).isspace():
            self.at += 1
            found += char
        return found

    def take(self, literal: str) -> Reading[bool]:
        """Read these very characters, or nothing."""
        while True:
            there = self.text[self.at : self.at + len(literal)]
            if there == literal:
                self.at += len(literal)
                return True
            if self.ended or not literal.startswith(there):
                return False
            yield from self._more()

    def until(self, marker: str, channel: str = "content") -> Reading[bool]:
        """Pass on what comes before the marker, and read that; False: there is none.

        White space before the marker is kept in `gap`.
        """
        while True:
            found = self.text.find(marker, self.at)
            if found >= 0:
                before = self.text[self.at : found]
                passed = before.rstrip()
                self.give(passed, channel)
                self.gap = before[len(passed) :]
                self.at = found + len(marker)
                return True
            end = len(self.text)
            if not self.ended:
                end -= _overlap(self.text, marker, self.at)
                end = self.at + len(self.text[self.at : end].rstrip())
            self.give(self.text[self.at : end], channel)
            self.at = end
            if self.ended:
                return False
            yield from self._more()

    # ---- underneath ---------------------------------------------------------------------------

    def _whole(self) -> Reading[None]:
        yield from self.read()
        self._over = True
        while True:
            self.give(self.text[self.at :])
            self.at = len(self.text)
            yield from self._more()

    def _go_on(self) -> None:
        next(self._reading)  # it never ends: past what `read` reads, all is passed on

    def _more(self) -> Reading[None]:
        if not self.kept:
            self.text, self.at = self.text[self.at :], 0
        yield

    def _given(self) -> list[Piece]:
        pieces = [Piece("".join(texts), channel, data) for channel, data, texts in self._out]
        self._out = []
        return [piece for piece in pieces if piece.text or piece.data]


def _overlap(text: str, marker: str, start: int) -> int:
    """How long the longest end of the text is that begins the marker."""
    at = text.find(marker[0], max(start, len(text) - len(marker) + 1))
    while at >= 0:
        if marker.startswith(text[at:]):
            return len(text) - at
        at = text.find(marker[0], at + 1)
    return 0
