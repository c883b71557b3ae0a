"""One caller of a program at a time, refusing those whose waiting would never end.

A signal handler that runs in the middle of a step would wait for the step that it has interrupted,
and a forked child for a thread that stayed behind in its parent. Both hear so instead.
"""

from __future__ import annotations

import os
import threading

from llama_plugin_cpu import native


class Turns:
    """A lock that threads wait for and that knows its process and its own thread."""

    __slots__ = ("_lock", "_process", "_taken")

    def __init__(self) -> None:
        self._lock = threading.RLock()  # of which a thread learns at once that it has it already
        self._process = os.getpid()
        self._taken = False

    @property
    def inherited(self) -> bool:
        """Whether it came here with a fork."""
        return self._process != os.getpid()

    def __enter__(self) -> None:
        if self.inherited:
            native.refuse("LLAMA_FORKED")
        self._lock.acquire()
        if self._taken:
            self._lock.release()
            native.refuse("LLAMA_BUSY", "this thread is in the middle of a step of the program")
        self._taken = True

    def __exit__(self, *_: object) -> None:
        self._taken = False
        self._lock.release()
