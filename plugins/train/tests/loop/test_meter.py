"""What counts as the time of a step, and what does not."""

from __future__ import annotations

import time

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.loop.meter import Meter  # noqa: E402
from llama_plugin_train.loop.ranks import Ranks  # noqa: E402


def test_a_pause_is_no_part_of_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    meter = Meter(torch.device("cpu"), Ranks(), 1)
    for _ in range(2):
        with meter.aside():
            now[0] += 60
        meter.lap()
        now[0] += 2
        meter.lap("forward")
        meter.step(torch.tensor(3.0), torch.tensor(1.0), 1.0, 64)
    seconds, times = meter.seconds()
    assert (seconds, times.forward, times.other) == (2.0, 2.0, 0.0)
