"""A run on a terminal: a bar, the curve of the loss, and a line for all else that happens.

Where there is no terminal, every event is one plain line.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Mapping
from typing import IO, Any

from llama_plugin_train.loop.events import Ended, Event, Preparing, Started, Step
from llama_plugin_train.metrics.lines import duration, line, sparkline, speed

MOST_LOSSES = 4096
_BAR = 30


def view(stream: IO[str] | None = None) -> Lines | Screen:
    """What suits the stream, by default standard error: results go to standard output."""
    stream = stream or sys.stderr
    return Screen(stream) if stream.isatty() else Lines(stream)


class Lines:
    """A line for each event."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, event: Event, record: Mapping[str, Any]) -> None:
        if (words := line(record)) is not None:
            print(words, file=self._stream, flush=True)

    def close(self) -> None:
        """Nothing is left to do."""


class Screen:
    """Three lines at the bottom that stay, and above them what scrolls by."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=stream, highlight=False)
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()
        self._losses: deque[float] = deque(maxlen=MOST_LOSSES)
        self._steps = 0

    def __call__(self, event: Event, record: Mapping[str, Any]) -> None:
        if isinstance(event, Started):
            self._steps = event.steps
        if isinstance(event, Step):
            self._losses.append(event.loss)
            width = max(10, self._console.width - 40)
            self._show(self._bottom(record, width))
        elif isinstance(event, Preparing):
            self._show(str(line(record)))
        elif (words := line(record)) is not None:
            self._console.print(_plain(words), soft_wrap=True)
        if isinstance(event, Ended):
            self.close()

    def close(self) -> None:
        """Give the terminal back."""
        self._live.stop()

    def _show(self, words: str) -> None:
        self._live.update(_plain(words), refresh=True)

    def _bottom(self, step: Mapping[str, Any], width: int) -> str:
        done = min(1.0, step["step"] / self._steps) if self._steps else 0.0
        left = max(0, self._steps - step["step"]) * step["seconds"]
        filled = round(_BAR * done)
        loss = "nan" if step["loss"] is None else f"{step['loss']:.4f}"
        return "\n".join(
            (
                f"{'━' * filled}{'╌' * (_BAR - filled)} {step['step']}/{self._steps}  "
                f"{done:.0%}  {duration(left)} left",
                f"loss {loss}  {sparkline(list(self._losses), width)}",
                f"rate {step['rate']:.2e}  {speed(step)}",
            )
        )


def _plain(words: str) -> Any:
    """Text from a model or a path is no markup."""
    from rich.text import Text

    return Text(words)
