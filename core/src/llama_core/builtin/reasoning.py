"""Tells a model's reasoning from its answer, by the marks it was trained to put around it."""

from __future__ import annotations

from llama_core.builtin.reading import Reader, Reading


class Reasoning(Reader):
    """What the answer begins with between `start` and `end` goes to the channel `reasoning`.

    With `begun` the prompt ends with the start already. A mark that comes later is text: an answer
    may speak of it.
    """

    def __init__(self, start: str = "<think>", end: str = "</think>", begun: bool = False) -> None:
        super().__init__()
        self.start, self.end = start, end
        self.begun = begun
        self.markers = (start, end)

    def read(self) -> Reading[None]:
        before = yield from self.space()
        if not (yield from self.take(self.start)) and not self.begun:
            self.give(before)
            return
        yield from self.space()
        yield from self.until(self.end, "reasoning")
        yield from self.space()
