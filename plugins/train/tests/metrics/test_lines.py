"""Events in words, and the curve in one line."""

from __future__ import annotations

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.loop import events
from llama_plugin_train.metrics.lines import duration, line, size, sparkline


def made(loss: float = 2.5) -> events.Step:
    return events.Step(
        step=40, loss=loss, last_loss=loss, rate=3e-4, gradient_norm=0.8125, tokens=1000,
        tokens_per_second=12345.6, utilization=0.414, seconds=0.5, memory_bytes=3 << 29,
        times=events.Times(data=0, forward=0.2, backward=0.2, optimizer=0.05, other=0.05),
    )  # fmt: skip


def test_a_step_in_words() -> None:
    assert line(made().to_json()) == (
        "step 40  loss 2.5000  rate 3.00e-04  norm 0.812  12,346 tokens/s  MFU 41.4%  1.5 GiB"
    )
    assert "loss nan" in str(line(made(float("nan")).to_json()))


def test_every_event_has_words() -> None:
    told = [
        events.Preparing(step=0, done_bytes=3 << 20, total_bytes=6 << 20),
        events.Started(step=50, run="runs/fox", steps=100, resumed=True, parameters=1234567,
                       tokens_per_step=4096, device="cpu", dtype="float32", ranks=2),
        made(),
        events.Evaluation(step=40, loss=2.0, perplexity=7.389, tokens=9, seconds=1, best=True),
        events.Sample(step=40, prompt="A fox", text="\x1b[2Jsaw\na bird"),
        events.Checkpoint(step=40, location="step-40", seconds=1.25, reason="schedule"),
        events.Changed(step=40, id="a", command="set", arguments={"clip": 0.5}),
        events.Changed(step=40, id="a", command="resume", arguments={}, error="not paused"),
        events.Warned(step=40, what="nan", message="the loss is no number"),
        events.Paused(step=40),
        events.Ended(step=100, reason="finished", seconds=3725, loss=1.5, model="m"),
    ]  # fmt: skip
    kinds = {one.kind for one in told}
    assert kinds == {kind.kind for kind in events.Event.__subclasses__()}
    lines = [str(line(one.to_json())) for one in told]
    assert lines[1] == (
        "runs/fox goes on from step 50: 1,234,567 parameters, 100 steps of 4,096 tokens, "
        "cpu float32, 2 ranks"
    )
    assert lines[3] == "step 40  held out: loss 2.0000, perplexity 7.39, the best so far"
    assert lines[4].isprintable(), "a sample cannot command the terminal"
    assert lines[7] == "step 40  resume: refused, not paused"
    assert lines[10] == "step 100  finished after 1:02:05, loss 1.5000"


@pytest.mark.parametrize(
    ("values", "width", "curve"),
    [
        ([], 10, ""),
        ([1.0], 10, "▁"),
        ([3.0, 3.0, 3.0], 10, "▁▁▁"),
        ([0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 8, "▁▂▃▄▅▆▇█"),
        ([7.0, float("nan"), 0.0], 8, "█▁"),
        ([8.0, 6.0, 2.0, 0.0], 2, "█▁"),
    ],
)
def test_the_curve(values: list[float], width: int, curve: str) -> None:
    assert sparkline(values, width) == curve


def test_units() -> None:
    assert (duration(59.6), duration(3661)) == ("1:00", "1:01:01")
    assert (size(12), size(1536), size(3 << 30)) == ("12 B", "2 KiB", "3.0 GiB")
