"""What a run tells reaches everybody, and nobody who hears it can stop the run."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.loop import events
from llama_plugin_train.metrics import readings as measuring
from llama_plugin_train.metrics.readings import Readings
from llama_plugin_train.metrics.telling import Telling, to_journal, to_listeners
from llama_plugin_train.metrics.view import Lines, Screen, view
from llama_plugin_train.runs import Journal, RunError

from llama_core import events as core
from llama_core.announce import Announcements


def step(number: int, loss: float = 2.0) -> events.Step:
    return events.Step(
        step=number, loss=loss, last_loss=loss, rate=0.1, gradient_norm=1, tokens=8 * number,
        tokens_per_second=100.0, utilization=None, seconds=0.1, memory_bytes=1 << 20,
        times=events.Times(data=0, forward=0, backward=0, optimizer=0, other=0.1),
    )  # fmt: skip


STARTED = events.Started(
    step=0, run="r", steps=4, resumed=False, parameters=1, tokens_per_step=8, device="cpu",
    dtype="float32", ranks=1,
)  # fmt: skip
ENDED = events.Ended(step=4, reason="finished", seconds=1.0, loss=2.0, model=None)


class Nothing:
    def read(self) -> dict[str, Any]:
        return {"cpu_percent": 50.0}


def telling(sinks: Mapping[str, Any], said: Announcements | None = None) -> Telling:
    readings: Any = Nothing()
    return Telling(sinks, said or Announcements(), readings)


def test_the_file_has_every_event_and_what_the_machine_did(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "metrics.jsonl")
    tell = telling({"file": to_journal(journal)})
    for event in (STARTED, step(1), step(2, float("nan")), ENDED):
        tell(event)
    found = [json.loads(each) for each in journal.path.read_text().splitlines()]
    assert [one["event"] for one in found] == ["started", "step", "step", "ended"]
    assert found[1]["machine"] == {"cpu_percent": 50.0}
    assert found[2]["loss"] is None
    journal.close()


def test_who_fails_is_heard_of_once_and_the_others_go_on() -> None:
    heard: list[int] = []
    said = Announcements()

    def full(event: Any, record: Any) -> None:
        raise RunError("cannot append to metrics.jsonl: No space left on device")

    tell = telling({"the file": full, "the rest": lambda e, r: heard.append(e.step)}, said)
    for number in range(1, 4):
        tell(step(number))
    assert heard == [1, 2, 3]
    (note,) = said.counts
    assert note.startswith("the file hears nothing more of this run from step 1 on")
    assert "No space left" in note


def test_listeners_of_the_core_hear_of_steps_checkpoints_and_the_end() -> None:
    heard: list[Any] = []
    tell = telling({"core": to_listeners("runs/fox", heard.append)})
    saved = events.Checkpoint(step=1, location="step-1", seconds=0.1, reason="schedule")
    for event in (STARTED, step(1), saved, events.Paused(step=1), ENDED):
        tell(event)
    assert [type(one) for one in heard] == [core.TrainStep, core.CheckpointWritten, core.Shutdown]
    assert (heard[0].run, heard[0].step, heard[0].loss) == ("runs/fox", 1, 2.0)
    assert heard[1].location == "step-1"


def test_the_machine_is_asked_once_a_second() -> None:
    pytest.importorskip("psutil", reason="psutil is not installed")
    now = [0.0]
    readings = Readings(Announcements(), clock=lambda: now[0])
    first = readings.read()
    assert first["process_memory_bytes"] > 1 << 20
    assert 0 <= first["memory_percent"] <= 100
    held = bytearray(64 << 20)
    assert readings.read() == first
    now[0] = 1.5
    assert readings.read()["process_memory_bytes"] > first["process_memory_bytes"]
    assert held[0] == 0


def test_what_cannot_be_read_any_more_is_said_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> list[tuple[str, float]]:
        raise OSError("no such sensor")

    monkeypatch.setattr(measuring, "_host", lambda said: broken)
    said, now = Announcements(), [0.0]
    readings = Readings(said, clock=lambda: now[0])
    for now[0] in (0.0, 2.0, 4.0):
        assert "process_memory_bytes" not in readings.read()
    assert list(said.counts.values()) == [1]
    assert "no such sensor" in next(iter(said.counts))


def test_without_psutil_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psutil", None)
    said = Announcements()
    assert "process_memory_bytes" not in Readings(said).read()
    assert "psutil is missing" in next(iter(said.counts))


def test_where_there_is_no_terminal_there_are_lines() -> None:
    stream = io.StringIO()
    shown = view(stream)
    assert isinstance(shown, Lines)
    for event in (STARTED, step(1), ENDED):
        shown(event, event.to_json())
    assert len(stream.getvalue().splitlines()) == 3
    assert "\x1b" not in stream.getvalue()


def test_a_terminal_shows_a_bar_and_the_curve() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    shown = view(stream)
    assert isinstance(shown, Screen)
    for event in (STARTED, step(1, 4.0), step(2, 2.0), events.Paused(step=2), ENDED):
        shown(event, event.to_json())
    text = stream.getvalue()
    assert "2/4  50%" in text
    assert "█▁" in text
    assert "step 2  paused" in text
    assert text.endswith("\x1b[?25h") or "\x1b[?25h" in text, "the cursor is shown again"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # tensorboard's own
def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="tensorboard is not installed")
    from llama_plugin_train.metrics.tensorboard import TensorBoard
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path)
    tell = telling({"board": board})
    held = events.Evaluation(step=2, loss=1.5, perplexity=4.5, tokens=9, seconds=1, best=True)
    for event in (STARTED, step(1, 4.0), step(2, 3.0), held, ENDED):
        tell(event)
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert [(one.step, one.value) for one in read.Scalars("loss/train")] == [(1, 4.0), (2, 3.0)]
    assert [one.value for one in read.Scalars("loss/held_out")] == [1.5]
    assert [one.value for one in read.Scalars("machine/cpu_percent")] == [50.0, 50.0]
