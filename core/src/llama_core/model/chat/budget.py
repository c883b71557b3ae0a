"""What one rendering of a template may spend: time, characters, and the size of what it makes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from llama_core.model.chat import ChatError

MAX_ITEMS = 200_000  # in one list
_MAX_NODES = 1_000_000  # in one value, lists in lists and all
_MAX_BITS = 4096  # in one number
_DEEPEST = 128
_SCRATCH = 4  # texts may be made and put together again this many times over


class Budget:
    """Counts down. Every loop step, call, filter and piece of output passes through here."""

    def __init__(self, seconds: float, characters: int) -> None:
        # Of this thread alone: a busy machine is not the template's fault, and it cannot wait.
        self._end = time.thread_time() + seconds
        self._seconds = seconds
        self._characters = characters
        self._left = characters * _SCRATCH

    def tick(self) -> None:
        """Notice the time."""
        if time.thread_time() > self._end:
            raise ChatError(f"the chat template computed for more than {self._seconds:g} seconds")

    def spend(self, characters: int) -> None:
        """Account for a text that was made."""
        self.tick()
        self._left -= characters
        if self._left < 0:
            raise ChatError(f"the chat template made more than {self._characters} characters")

    def planned(self, characters: int) -> None:
        """Refuse before it is made what would be too much."""
        if characters > self._characters:
            raise ChatError(f"the chat template wanted {characters} characters at once")

    def made(self, value: Any) -> Any:
        """Account for a value that the template computed, and hand it on."""
        if isinstance(value, str):
            self.spend(len(value))
        elif isinstance(value, (list, tuple, dict)):
            if len(value) > MAX_ITEMS:
                raise ChatError(f"the chat template made a list of {len(value)}")
            self.measure(value)
        elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise ChatError("the chat template computed a number of thousands of digits")
        else:
            self.tick()
        return value

    def measure(self, value: Any) -> int:
        """About how many characters a value takes as text; raises where it would be too much.

        A list may hold itself many times over, so what is small in memory can be endless as text,
        and to compare.
        """
        length = nodes = 0
        stack = [(value, 0)]
        while stack:
            one, depth = stack.pop()
            nodes += 1
            if not nodes & 1023:
                self.tick()
            if isinstance(one, str):
                length += len(one) + 2
            elif isinstance(one, (list, tuple)):
                length += 2
                stack += [(item, depth + 1) for item in one]
            elif isinstance(one, Mapping):
                length += 2
                stack += [(item, depth + 1) for pair in one.items() for item in pair]
            else:
                length += 24
            if nodes + len(stack) > _MAX_NODES or depth > _DEEPEST:
                raise ChatError("the chat template put too many things into one value")
        self.planned(length)
        return length


_current: ContextVar[Budget | None] = ContextVar("chat_budget", default=None)


def current() -> Budget:
    """The budget of the rendering that this thread is in. While a template is compiled there is
    none; the error then tells Jinja to compute the value when it is rendered."""
    budget = _current.get()
    if budget is None:
        raise LookupError("templates are rendered through CompiledTemplate only")
    return budget


@contextmanager
def spending(budget: Budget) -> Iterator[Budget]:
    """Make a budget current."""
    token = _current.set(budget)
    try:
        yield budget
    finally:
        _current.reset(token)
