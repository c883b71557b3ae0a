"""What Ctrl-C and SIGTERM mean to a run: the first time, please; the second time, at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stopping(stop: Callable[[], object]) -> Iterator[None]:
    """Call `stop` at the first signal, and raise KeyboardInterrupt at the second."""
    told = threading.Event()

    def first() -> None:
        click.echo("stopping after this step, with a checkpoint; again: at once", err=True)
        stop()

    def on_signal(number: int, frame: object) -> None:
        if told.is_set():
            raise KeyboardInterrupt
        told.set()
        # Elsewhere: what was interrupted may be taking commands, or printing, just now.
        threading.Thread(target=first, daemon=True).start()

    before = {name: signal.signal(name, on_signal) for name in _SIGNALS}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)
