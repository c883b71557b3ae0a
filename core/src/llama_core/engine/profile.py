"""Where the time of a stretch of work went: an engine is traced, and the trace is added up.

Every nanosecond of the stretch is counted once: what is nested is taken from what it lies in, and
what no step covers is the time between the steps.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from llama_core.engine.engine import Engine
from llama_core.engine.trace import Total, Trace, Untraced


@contextmanager
def traced(engine: Engine) -> Iterator[Trace]:
    """Trace what the engine does meanwhile. Requests that are open already keep their chains."""
    trace = Trace(engine.program)
    engine.trace = trace
    try:
        yield trace
    finally:
        engine.trace = Untraced()
        trace.stop()


@dataclass(frozen=True, slots=True)
class Share:
    """What one thing took of the whole, without what is counted apart within it."""

    name: str
    count: int
    seconds: float
    fraction: float  # of the wall time


@dataclass(frozen=True, slots=True)
class Summary:
    """A trace added up."""

    wall_seconds: float
    num_steps: int
    phases: tuple[Share, ...]  # sum to the wall time
    ops: tuple[Share, ...]  # within `submit`; empty where the program tells no times
    nodes: tuple[Share, ...]  # the same by node, the longest first
    num_left_out: int

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def summarize(trace: Trace, most_nodes: int = 10) -> Summary:
    """Add a trace up; it has to be stopped."""
    steps = trace.totals.get(("step", "step"), Total(""))
    phases = {"between steps": Total("", max(steps.count - 1, 0), 0, trace.wall_ns - steps.ns)}
    ops: dict[str, Total] = {}
    nodes: dict[str, Total] = {}
    for (kind, name), total in trace.totals.items():
        # The links of a chain are what sampling is, wherever in the step they ran.
        phase = {"step": "between phases", "link": "sample", "node": "nodes"}.get(kind, name)
        _join(phases, phase, total)
        if kind == "node":
            _join(ops, total.op, total)
            _join(nodes, name, total)
    return Summary(
        trace.wall_ns / 1e9,
        steps.count,
        _shares(phases, trace.wall_ns),
        _shares(ops, trace.wall_ns),
        _shares(nodes, trace.wall_ns)[:most_nodes],
        trace.num_left_out,
    )


def _join(totals: dict[str, Total], name: str, more: Total) -> None:
    total = totals.setdefault(name, Total(""))
    total.count += more.count
    total.own_ns += more.own_ns


def _shares(totals: dict[str, Total], wall_ns: int) -> tuple[Share, ...]:
    found = [
        Share(name, total.count, total.own_ns / 1e9, total.own_ns / wall_ns)
        for name, total in totals.items()
    ]
    return tuple(sorted(found, key=lambda one: -one.seconds))
