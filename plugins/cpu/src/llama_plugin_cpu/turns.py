"""One caller of a program at a time, refusing those whose waiting would never end.

A signal handler that runs in the middle of a step would wait for the step that it has interrupted,
and a forked child for a thread that stayed behind in its parent. Both hear so instead.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

from llama_plugin_cpu import native


class Turns:
    """Whose turn it is, and in which process."""

    __slots__ = ("lock", "process", "taken")

    def __init__(self) -> None:
        self.lock = threading.RLock()  # of which a thread learns at once that it has it already
        self.process = os.getpid()
        self.taken = False

    @property
    def inherited(self) -> bool:
        """Whether it came here with a fork."""
        return self.process != os.getpid()


class Shared(Protocol):
    turns: Turns


Self = TypeVar("Self", bound=Shared)
Given = ParamSpec("Given")
Result = TypeVar("Result")


def in_turn(
    method: Callable[Concatenate[Self, Given], Result],
) -> Callable[Concatenate[Self, Given], Result]:
    """The method runs when nobody else is in one of these. Whatever interrupts it leaves the lock
    as it was: so `with` itself takes it, without a function of Python's in between."""

    @wraps(method)
    def run(program: Self, /, *given: Given.args, **named: Given.kwargs) -> Result:
        turns = program.turns
        if turns.inherited:
            native.refuse("LLAMA_FORKED")
        with turns.lock:
            if turns.taken:
                native.refuse("LLAMA_BUSY", "this thread is in the middle of a step")
            try:
                turns.taken = True
                return method(program, *given, **named)
            finally:
                turns.taken = False

    return run
