"""Profiles: what a trace viewer would refuse, sums that must come out, nothing when it is off."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.contracts.step import Plan
from llama_core.contracts.timing import Timing
from llama_core.discovery import discover
from llama_core.engine.load import Loaded, load
from llama_core.engine.profile import summarize, traced
from llama_core.engine.request import Link, Params, Request
from llama_core.engine.trace import Trace, Untraced

from .command import llama
from .tinymodel import tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def plugins() -> Plugins:
    return Plugins(discover([]), Config())


SAMPLED = Params(
    max_tokens=8,
    transforms=(Link("temperature", {"temperature": 0.9}), Link("top-k", {"k": 20})),
    sampler=Link("sample"),
    seed=1,
)


def ask(loaded: Loaded, params: Params, name: str = "r") -> list[int]:
    prompt = tuple(loaded.tokenizer.encode("Once upon a time"))
    return loaded.engine.generate(Request(name, prompt, params)).choices[0].tokens


def profile(loaded: Loaded, params: Params) -> Trace:
    with traced(loaded.engine.engine) as trace:
        ask(loaded, params)
    return trace


def rows(trace: Trace, path: Path) -> list[dict[str, Any]]:
    """The complete events of the file, as a viewer reads them."""
    trace.write(path)
    found = json.loads(path.read_text("utf-8"))
    assert found["displayTimeUnit"] == "ms"
    return [row for row in found["traceEvents"] if row["ph"] == "X"]


def test_a_viewer_can_nest_every_event(folder: Path, plugins: Plugins, tmp_path: Path) -> None:
    with load(folder, plugins=plugins) as loaded:
        found = rows(profile(loaded, SAMPLED), tmp_path / "trace.json")
    starts = [row["ts"] for row in found]
    assert starts == sorted(starts)
    assert starts[0] >= 0
    assert len({(row["pid"], row["tid"]) for row in found}) == 1
    # A viewer pushes and pops: whatever begins within another must end within it.
    around: list[dict[str, Any]] = []
    depths: dict[str, set[int]] = {}
    for row in found:
        assert row["dur"] >= 0
        while around and around[-1]["ts"] + around[-1]["dur"] <= row["ts"] + 1e-6:
            around.pop()
        if around:
            assert row["ts"] + row["dur"] <= around[-1]["ts"] + around[-1]["dur"] + 1e-6
        depths.setdefault(row["cat"], set()).add(len(around))
        around.append(row)
    assert depths == {"step": {0}, "phase": {1}, "node": {2}, "link": {2}}


def test_every_step_has_its_phases_and_every_node_of_the_graph(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    with load(folder, plugins=plugins) as loaded:
        found = rows(profile(loaded, SAMPLED), tmp_path / "trace.json")
        names = [node.name for node in loaded.graph.nodes]
    assert sum(row["cat"] == "step" for row in found) == 8
    phases = ["schedule", "assemble", "submit", "sample", "postprocess"]
    assert [row["name"] for row in found if row["cat"] == "phase"] == phases * 8
    assert [row["name"] for row in found if row["cat"] == "node"] == names * 8
    links = [row["name"] for row in found if row["cat"] == "link"]
    assert links == ["Temperature", "TopK", "Multinomial"] * 8
    first = next(row for row in found if row["name"] == "submit")
    assert first["args"] == {"sequences": 1, "rows": 16}


def test_the_shares_add_up_to_the_wall_time(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins) as loaded:
        summary = summarize(profile(loaded, SAMPLED))
    assert summary.num_steps == 8
    assert sum(share.seconds for share in summary.phases) == pytest.approx(summary.wall_seconds)
    assert all(share.seconds >= 0 for share in summary.phases)
    nodes = next(share for share in summary.phases if share.name == "nodes")
    assert sum(share.seconds for share in summary.ops) == pytest.approx(nodes.seconds)
    assert sum(share.count for share in summary.ops) == nodes.count
    # A model of two layers on plain NumPy spends its time computing, or the clock is elsewhere.
    assert nodes.fraction > 0.3


def test_profiling_changes_no_answer_and_leaves_nothing_behind(
    folder: Path, plugins: Plugins
) -> None:
    with load(folder, plugins=plugins) as loaded:
        plain = ask(loaded, SAMPLED)
        engine: Any = loaded.engine.engine
        with traced(engine) as trace:
            assert ask(loaded, SAMPLED) == plain
        events = len(trace.events)
        assert ask(loaded, SAMPLED, "later") == plain
        assert len(trace.events) == events
        assert type(engine.trace) is Untraced
        assert engine.program.times() == ()


def test_the_times_of_a_step_are_told_once(folder: Path, plugins: Plugins) -> None:
    with load(folder, plugins=plugins, backend="reference") as loaded:
        program: Any = loaded.program
        program.keep_times(True)
        ask(loaded, Params(max_tokens=1))
        assert len(program.times()) == len(loaded.graph.nodes)
        assert program.times() == ()


def test_two_steps_in_flight_keep_their_nodes_apart(
    folder: Path, plugins: Plugins, tmp_path: Path
) -> None:
    with load(folder, plugins=plugins, plan=Plan(in_flight=2)) as loaded:
        trace = profile(loaded, Params(max_tokens=8))
        found = rows(trace, tmp_path / "trace.json")
        names = [node.name for node in loaded.graph.nodes]
    submits = [row for row in found if row["name"] == "submit" and row["args"]]
    assert len(submits) == 8
    for row in submits:
        within = [
            one["name"]
            for one in found
            if one["cat"] == "node" and row["ts"] <= one["ts"] < row["ts"] + row["dur"]
        ]
        assert within == names
    first = [row["name"] for row in found if row["cat"] in ("step", "phase")][:11]
    launch = ["schedule", "assemble", "submit"]
    assert first == ["step", *launch, *launch, "wait", "sample", "postprocess", "step"]
    summary = summarize(trace)
    assert summary.num_steps == 8
    assert sum(share.seconds for share in summary.phases) == pytest.approx(summary.wall_seconds)
    assert all(share.seconds >= 0 for share in summary.phases)


class Behind:
    """A program whose first step ends while it is waited for, after a second was submitted."""

    def __init__(self) -> None:
        self.told: list[Timing] = []

    def keep_times(self, on: bool) -> None:
        """It always does."""

    def times(self) -> Sequence[Timing]:
        found, self.told = self.told, []
        return found


def test_of_a_step_behind_ones_back_only_the_wait_counts() -> None:
    ticks = iter(range(0, 10_000, 100))
    program: Any = Behind()
    trace = Trace(program, clock=lambda: next(ticks))
    for _ in range(2):
        trace.phase("submit", rows=1)
    trace.phase("submit")
    trace.phase("wait")
    # It began long before: 60 of the wait are b's, and 40 of it the end of a.
    program.told = [Timing("a", "linear", 0, 240), Timing("b", "add", 240, 60)]
    trace.phase("sample")
    trace.end_step()
    trace.stop()
    found = {event.name: (event.began_ns, event.ns) for event in trace.events}
    assert found["wait"] == (300, 100)
    assert found["a"] == (300, 40)
    assert found["b"] == (340, 60)
    shares = {share.name: share.seconds for share in summarize(trace).phases}
    assert shares["wait"] == 0
    assert shares["nodes"] == pytest.approx(100e-9)
    assert shares["submit"] == pytest.approx(200e-9)


class Clocked:
    """A program that says it took longer than its step."""

    def keep_times(self, on: bool) -> None:
        self.on = on

    def times(self) -> Sequence[Timing]:
        return (Timing("a", "linear", 0, 60), Timing("b", "add", 60, 10**9))


def test_a_programs_clock_cannot_run_out_of_its_step() -> None:
    ticks = iter(range(0, 10_000, 100))
    program: Any = Clocked()
    trace = Trace(program, clock=lambda: next(ticks))
    assert program.on
    for name in ("schedule", "submit", "sample"):
        trace.phase(name)
    trace.end_step()
    trace.stop()
    assert not program.on
    ends = {event.name: (event.began_ns, event.ns) for event in trace.events}
    assert ends["submit"] == (200, 100)
    assert ends["a"] == (200, 60)
    assert ends["b"] == (260, 40)
    assert ends["step"] == (100, 300)
    shares = {share.name: share.seconds for share in summarize(trace).phases}
    assert shares["submit"] == 0
    assert shares["nodes"] == pytest.approx(100e-9)
    assert shares["between steps"] == pytest.approx(200e-9)


def test_past_the_most_events_the_totals_still_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llama_core.engine.trace.MOST_EVENTS", 3)
    ticks = iter(range(0, 10_000, 100))
    trace = Trace(object(), clock=lambda: next(ticks))  # type: ignore[arg-type]
    for _ in range(4):
        trace.phase("schedule")
        trace.end_step()
    trace.stop()
    summary = summarize(trace)
    assert (summary.num_steps, summary.num_left_out, len(trace.events)) == (4, 5, 3)
    assert summary.ops == ()


def test_run_writes_a_profile_beside_its_answer(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    plain = llama("run", folder, "Hello", "--max-tokens", 4)
    done = llama("run", folder, "Hello", "--max-tokens", 4, "--profile", path)
    assert (done.code, done.out) == (0, plain.out)
    assert done.err.splitlines()[0].endswith(f"s in 4 steps; the trace is in {path}")
    assert {"phase of a step", "op", "node"} <= {
        line.split("  ")[0] for line in done.err.splitlines()
    }
    assert len(json.loads(path.read_text("utf-8"))["traceEvents"]) > 100


def test_a_profile_that_cannot_be_written_is_refused_before_the_work(
    folder: Path, tmp_path: Path
) -> None:
    for path, words in (
        (tmp_path, "is a folder"),
        (tmp_path / "nowhere" / "trace.json", "there is no folder"),
    ):
        done = llama("run", folder, "Hello", "--profile", path)
        assert (done.code, done.out) == (2, "")
        assert words in done.err
