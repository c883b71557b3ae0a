"""What the machine does while a run runs: processor, memory, and the GPU if it has one.

Processor and memory come from psutil, a GPU's numbers from torch, which asks the vendor's library.
Both are extras: what cannot be read is left out, and said once.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from llama_core.announce import Announcements

EVERY_SECONDS = 1.0  # asking a GPU takes about a millisecond
_EXTRA = "pip install 'llama-plugin-train[metrics]'"


class Readings:
    """Reads at most once a second; in between it gives what it has."""

    def __init__(
        self, announcements: Announcements, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._announcements, self._clock = announcements, clock
        self._next = 0.0
        self._last: dict[str, Any] = {}
        self._sources = [one for one in (_host(announcements), _gpu(announcements)) if one]

    def read(self) -> dict[str, Any]:
        """The numbers by name; percents are of one processor core, of a GPU's time, of memory."""
        now = self._clock()
        if now >= self._next:
            self._next = now + EVERY_SECONDS
            self._last = {
                name: value for one in list(self._sources) for name, value in self._of(one)
            }
        return dict(self._last)

    def _of(self, source: Source) -> list[tuple[str, float]]:
        try:
            return source()
        except Exception as error:  # noqa: BLE001  no run ends over a thermometer
            self._sources.remove(source)
            self._announcements.note(f"the machine is no longer measured: {error!r}")
            return []


Source = Callable[[], list[tuple[str, float]]]


def _host(announcements: Announcements) -> Source | None:
    try:
        import psutil
    except ImportError:
        announcements.note(
            "processor and memory are not measured: psutil is missing", remedy=_EXTRA
        )
        return None
    process = psutil.Process()
    process.cpu_percent()  # the first call has nothing to compare with
    psutil.cpu_percent()

    def read() -> list[tuple[str, float]]:
        memory = psutil.virtual_memory()
        return [
            ("process_cpu_percent", process.cpu_percent()),
            ("process_memory_bytes", process.memory_info().rss),
            ("cpu_percent", psutil.cpu_percent()),
            ("memory_percent", memory.percent),
            ("memory_available_bytes", memory.available),
        ]

    return read


def _gpu(announcements: Announcements) -> Source | None:
    """The GPU this process trains on. torch finds the right one where some are hidden."""
    import torch

    if not torch.cuda.is_available():
        return None
    try:
        torch.cuda.utilization()
    except Exception as error:  # noqa: BLE001  the vendor's library has errors of its own
        announcements.note(f"the GPU's utilization is not measured: {error}", remedy=_EXTRA)
        return None

    def read() -> list[tuple[str, float]]:
        free, total = torch.cuda.mem_get_info()
        return [
            ("gpu_percent", torch.cuda.utilization()),
            ("gpu_memory_bytes", total - free),
            ("gpu_memory_percent", 100.0 * (total - free) / total),
            ("gpu_watts", torch.cuda.power_draw() / 1000.0),
            ("gpu_celsius", torch.cuda.temperature()),
        ]

    return read
