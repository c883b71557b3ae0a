"""One callable for the loop to tell everything to, and all who hear of it behind.

The loop's thread comes through here between two steps. Who fails is told off once and heard no
more of: a full disk under the metrics ends no run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from llama_core import events as core
from llama_core.announce import Announcements
from llama_core.errors import LlamaError
from llama_plugin_train.loop.events import Checkpoint, Ended, Event, Step
from llama_plugin_train.metrics.readings import Readings
from llama_plugin_train.runs.journal import Journal

Sink = Callable[[Event, Mapping[str, Any]], None]


class Telling:
    """Hands each event, with what the machine does, to every sink in order."""

    def __init__(
        self, sinks: Mapping[str, Sink], announcements: Announcements, readings: Readings
    ) -> None:
        self._sinks = dict(sinks)
        self._announcements = announcements
        self._readings = readings

    def __call__(self, event: Event) -> None:
        record = event.to_json()
        if isinstance(event, Step):
            record["machine"] = self._readings.read()
        for name, sink in list(self._sinks.items()):
            try:
                sink(event, record)
            except Exception as error:  # noqa: BLE001  whatever it was, the run goes on
                del self._sinks[name]
                why = str(error) if isinstance(error, LlamaError) else repr(error)
                self._announcements.note(
                    f"{name} hears nothing more of this run from step {event.step} on: {why}"
                )


def to_journal(journal: Journal) -> Sink:
    """A line for each event in the run's metrics."""

    def sink(event: Event, record: Mapping[str, Any]) -> None:
        journal.append({**record, "time": time.time()})  # for people; nothing is decided by it

    return sink


def to_listeners(run: str, emit: Callable[[core.Event], None]) -> Sink:
    """Plugins and applications that listen to the core hear of steps, checkpoints and the end."""

    def sink(event: Event, record: Mapping[str, Any]) -> None:
        if isinstance(event, Step):
            emit(
                core.TrainStep(
                    run=run,
                    step=event.step,
                    loss=event.loss,
                    learning_rate=event.rate,
                    tokens_per_second=event.tokens_per_second,
                )
            )
        elif isinstance(event, Checkpoint):
            emit(core.CheckpointWritten(run=run, step=event.step, location=event.location))
        elif isinstance(event, Ended):
            emit(core.Shutdown(reason=event.reason))

    return sink
