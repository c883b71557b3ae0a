"""Calls into a plugin that cannot take the core down: every way to fail becomes one error.

Knows nothing of plugins as such, only of a name to blame. What raises, exits or returns junk ends
in a `PluginFault`; what hangs is reported by a watchdog, since Python cannot interrupt it.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import threading
import time
import traceback
import weakref
from collections.abc import Callable
from types import TracebackType

from llama_core.errors import LlamaError, PluginFault, plain

log = logging.getLogger("llama_core")


def explain(error: BaseException) -> str:
    """An exception in one line, with the place in the plugin's own code where it arose."""
    if isinstance(error, SystemExit):
        what = f"it called sys.exit({_text(error)})"
    elif isinstance(error, ModuleNotFoundError) and error.name:
        what = f"it needs the module {error.name!r}, which is not installed"
    else:
        text = _text(error)
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError) and error.filename:
        return f"{what.splitlines()[0]} ({error.filename}:{error.lineno})"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen") and not _ours(frame.filename)
    ]
    where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return plain(" ".join(what.splitlines()), 500) + where


def let_pass(error: BaseException) -> None:
    """Raise what is the user's and nobody's fault: Ctrl-C, which arrives in the main thread only.

    Elsewhere, and where the program ignores Ctrl-C, a KeyboardInterrupt is of whoever raised it.
    """
    if (
        isinstance(error, KeyboardInterrupt)
        and threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
    ):
        raise error


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException as another:  # noqa: BLE001 - an exception's own text is plugin code too
        let_pass(another)
        return f"its text cannot be had: {type(another).__name__}"


def _ours(filename: str) -> bool:
    return f"{os.sep}pluggy{os.sep}" in filename or filename == __file__


class Watchdog:
    """Reports calls that stay in a plugin for too long. Its thread lives while calls do."""

    def __init__(self, timeout_seconds: float, report: Callable[[str, str, float], None]) -> None:
        self.timeout_seconds = timeout_seconds
        self._report = report
        self._ids = itertools.count()
        self._reset()
        _everywhere.add(self)

    def _reset(self) -> None:
        self._calls: dict[int, tuple[float, str, str]] = {}
        self._reported: set[int] = set()
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()

    def enter(self, plugin: str, where: str) -> int:
        """A call begins; hand the number to `leave` when it ends."""
        number = next(self._ids)
        self._calls[number] = (time.monotonic(), plugin, where)
        if self._thread is None:
            self._start()
        return number

    def leave(self, number: int) -> None:
        self._calls.pop(number, None)

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="llama-watchdog", daemon=True)
                try:
                    thread.start()
                except RuntimeError as error:  # no threads left, or the interpreter is ending
                    log.warning("calls into plugins are not watched: %s", error)
                else:
                    self._thread = thread

    def _run(self) -> None:
        tick = min(1.0, max(0.01, self.timeout_seconds / 4))
        idle_ticks = 0
        while True:
            time.sleep(tick)
            now = time.monotonic()
            calls = list(self._calls.items())
            self._reported &= {number for number, _ in calls}
            for number, (since, plugin, where) in calls:
                if now - since >= self.timeout_seconds and number not in self._reported:
                    self._reported.add(number)
                    self._report(plugin, where, self.timeout_seconds)
            idle_ticks = 0 if calls else idle_ticks + 1
            if idle_ticks >= 4:
                with self._starting:
                    # `enter` writes the call first and reads the thread second: no call is missed.
                    self._thread = None
                    if not self._calls:
                        return
                    self._thread = threading.current_thread()
                idle_ticks = 0


_everywhere: weakref.WeakSet[Watchdog] = weakref.WeakSet()


def _after_fork() -> None:
    for each in _everywhere:
        each._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Guard:
    """`with guard(plugin, where): …` turns whatever escapes into a `PluginFault` and counts it.

    A `LlamaError` passes through as it is: it is the plugin's answer to the user, not a fault. So
    does the user's own Ctrl-C.
    """

    def __init__(self, watchdog: Watchdog, on_fault: Callable[[PluginFault], None]) -> None:
        self._watchdog = watchdog
        self._on_fault = on_fault

    def __call__(self, plugin: str, where: str) -> _Guarded:
        return _Guarded(self, plugin, where)

    def fault(
        self, plugin: str, where: str, why: str, cause: BaseException | None = None
    ) -> PluginFault:
        """Count a fault and give the error to raise."""
        error = PluginFault(plugin, where, why, remedy=_remedy(plugin, cause))
        error.__cause__ = cause
        self._on_fault(error)
        return error


class _Guarded:
    __slots__ = ("_guard", "_number", "_plugin", "_where")

    def __init__(self, guard: Guard, plugin: str, where: str) -> None:
        self._guard, self._plugin, self._where = guard, plugin, where

    def __enter__(self) -> None:
        self._number = self._guard._watchdog.enter(self._plugin, self._where)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._guard._watchdog.leave(self._number)
        if error is None or isinstance(error, (LlamaError, GeneratorExit)):
            return
        let_pass(error)
        raise self._guard.fault(self._plugin, self._where, explain(error), error) from error


def _remedy(plugin: str, cause: BaseException | None) -> str:
    if isinstance(cause, ModuleNotFoundError) and cause.name:
        return f"Install it: pip install {cause.name.split('.')[0]}"
    return f"Report it to the plugin's author, or go on without it: llama plugins disable {plugin}"
