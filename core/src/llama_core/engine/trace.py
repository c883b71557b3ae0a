"""A record of where the time of an engine's steps went, in the form that trace viewers open.

The engine tells it the phases of each step; it asks the program for the times of its nodes and
holds a clock to the links of sampling chains. It knows neither requests nor what a phase does.
Times are whole nanoseconds of one monotonic clock, so that what is nested stays nested.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from llama_core.contracts.program import Program
from llama_core.contracts.timing import TimingProgram
from llama_core.engine.sampling import Chain

MOST_EVENTS = 1_000_000  # about 150 MB of JSON, beyond which viewers give up


@dataclass(frozen=True, slots=True)
class Event:
    """A stretch of time. `kind` is step, phase, link or node."""

    kind: str
    name: str
    began_ns: int  # since the trace began
    ns: int
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Total:
    """All events of one name together, and what is left without those nested in them."""

    op: str
    count: int = 0
    ns: int = 0
    own_ns: int = 0


class Untraced:
    """What an engine tells when nobody profiles it, and nobody keeps."""

    def phase(self, name: str, **about: Any) -> None:
        """This one begins, where it has not, and the one before ends; the first of a step begins
        the step."""

    def end_step(self) -> None:
        """The step and its last phase end."""

    def watch(self, chain: Chain) -> None:
        """A sampling chain was made, whose links are to be timed."""


class Trace(Untraced):
    """Everything between its making and `stop`; put it into `engine.trace`."""

    def __init__(self, program: Program, clock: Callable[[], int] = time.perf_counter_ns) -> None:
        self.events: list[Event] = []
        self.totals: dict[tuple[str, str], Total] = {}  # by kind and name
        self.num_left_out = 0
        self.thread = 0
        self.wall_ns = 0  # set by `stop`
        self._timed = cast(TimingProgram, program) if hasattr(program, "keep_times") else None
        self._clock = clock
        self._step: int | None = None  # when the one under way began
        self._phase: tuple[str, int, Mapping[str, Any]] | None = None
        self._inner: list[Event] = []  # of the phase under way
        self._in_phases = 0  # of the step under way
        if self._timed is not None:
            self._timed.keep_times(True)
        self._zero = clock()

    @property
    def has_nodes(self) -> bool:
        """Whether the program tells the times of its nodes."""
        return self._timed is not None

    def phase(self, name: str, **about: Any) -> None:
        if self._phase is not None and self._phase[0] == name and not about:
            return
        now = self._clock()
        if self._step is None:
            self._step = now
            self.thread = threading.get_native_id()
        self._close(now)
        self._phase = name, now, about

    def end_step(self) -> None:
        now = self._clock()
        self._close(now)
        if self._step is None:  # it began before anybody profiled
            return
        ns = now - self._step
        self._add(Event("step", "step", self._step - self._zero, ns), ns - self._in_phases)
        self._step, self._in_phases = None, 0

    def watch(self, chain: Chain) -> None:
        chain.transforms = tuple(self._clocked(transform) for transform in chain.transforms)
        chain.sampler = self._clocked(chain.sampler)

    def stop(self) -> None:
        """No more is told; the program's clock is put away."""
        self.wall_ns = self._clock() - self._zero
        if self._timed is not None:
            self._timed.keep_times(False)

    def write(self, path: Path) -> None:
        """As JSON for chrome://tracing, Perfetto and their like; in microseconds, as they read."""
        with path.open("w", encoding="utf-8") as out:
            out.write('{"displayTimeUnit": "ms", "otherData": ')
            json.dump({"events_left_out": self.num_left_out}, out)
            out.write(', "traceEvents": [\n')
            out.write(",\n".join(json.dumps(each) for each in self._rows()))
            out.write("\n]}\n")

    # ------------------------------------------------------------------ within a step

    def _close(self, now: int) -> None:
        """End the phase under way, with what is nested in it."""
        if self._phase is None:
            return
        name, began, about = self._phase
        self._phase = None
        ns = now - began
        self._in_phases += ns
        inner, self._inner = self._inner, []
        if name in ("submit", "wait") and self._timed is not None:
            times = self._timed.times()
            # What is waited for has just ended, and may have begun before: only the wait counts.
            late = ns - max((one.began_ns + one.ns for one in times), default=0)
            shift = late if name == "wait" else 0
            for one in times:
                # The program's clock may begin or tick otherwise: what is nested stays within.
                start = min(max(one.began_ns + shift, 0), ns)
                end = min(max(one.began_ns + one.ns + shift, start), ns)
                at = began - self._zero + start
                inner.append(Event("node", one.name, at, end - start, {"op": one.op}))
        own = ns - sum(event.ns for event in inner)
        self._add(Event("phase", name, began - self._zero, ns, about), own)
        for event in inner:
            self._add(event, event.ns)

    def _add(self, event: Event, own_ns: int) -> None:
        total = self.totals.setdefault((event.kind, event.name), Total(event.about.get("op", "")))
        total.count += 1
        total.ns += event.ns
        total.own_ns += own_ns
        if len(self.events) < MOST_EVENTS:
            self.events.append(event)
        else:
            self.num_left_out += 1

    def _clocked(self, link: Any) -> Any:
        name = type(link).__name__

        def call(_: Any, *given: Any) -> Any:
            began = self._clock()
            try:
                return link(*given)
            finally:
                if self._phase is not None:
                    ns = self._clock() - began
                    self._inner.append(Event("link", name, began - self._zero, ns))

        # A link is named by its type where it fails, and has to be by the same name here.
        return type(name, (), {"__call__": call})()

    def _rows(self) -> Iterator[dict[str, Any]]:
        here = {"pid": os.getpid(), "tid": self.thread}
        yield {"name": "process_name", "ph": "M", **here, "args": {"name": "llama"}}
        yield {"name": "thread_name", "ph": "M", **here, "args": {"name": "engine"}}
        for event in sorted(self.events, key=lambda one: (one.began_ns, -one.ns)):
            yield {
                "name": event.name,
                "cat": event.kind,
                "ph": "X",
                "ts": event.began_ns / 1000,
                "dur": event.ns / 1000,
                **here,
                "args": dict(event.about),
            }
