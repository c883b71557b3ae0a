"""Where what a run tells meets who listens, and what it is told meets what became of it.

The run's own thread calls `publish`, which never waits for anybody: a listener is a bounded queue,
and one that does not keep up loses its place. It knows neither sockets nor torch.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any

from llama_core.errors import LlamaError
from llama_plugin_train.control.protocol import PROTOCOL, VERSION, Answer, Order
from llama_plugin_train.loop.commands import Commands
from llama_plugin_train.loop.events import (
    Changed,
    Checkpoint,
    Ended,
    Evaluation,
    Event,
    Paused,
    Started,
    Step,
    Warned,
)

KEPT_EVENTS = 4096  # of about half a KiB each
QUEUE_LENGTH = 512  # messages that one listener may leave lying
REPLAYED_EVENTS = 256
KEPT_ANSWERS = 256
MOST_WAITING = 64  # commands that have not taken effect yet

LATEST: Mapping[type[Event], str] = {
    Step: "step",
    Evaluation: "evaluation",
    Checkpoint: "checkpoint",
    Warned: "warning",
}

OnAnswer = Callable[[Answer], None]


class Refused(LlamaError):
    """An order that is not passed on: `used` ids, too many that wait, a run that is over."""

    code = "command_refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Listener:
    """One listener's queue. `wake` is called, from any thread, when there is something in it."""

    def __init__(self, wake: Callable[[], None]) -> None:
        self.missed = 0
        self.ended = False
        self._wake = wake
        self._waiting: deque[dict[str, Any]] = deque()
        self._lock = threading.Lock()

    def push(self, message: dict[str, Any]) -> None:
        with self._lock:
            if self.missed or len(self._waiting) >= QUEUE_LENGTH:
                self.missed += 1
            else:
                self._waiting.append(message)
        self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def take(self) -> list[dict[str, Any]]:
        """What waits, oldest first."""
        with self._lock:
            taken = list(self._waiting)
            self._waiting.clear()
        return taken


class Hub:
    """Events of one run, numbered from 1, and the orders that wait in it."""

    def __init__(
        self, run: str, commands: Commands, settings: Mapping[str, float] | None = None
    ) -> None:
        self._commands = commands
        self._lock = threading.Lock()
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self._listeners: list[Listener] = []
        self._waiting: dict[str, tuple[Order, list[OnAnswer]]] = {}
        self._answers: OrderedDict[str, Answer] = OrderedDict()
        self._state: dict[str, Any] = {
            "protocol": PROTOCOL,
            "version": VERSION,
            "run": run,
            "process": os.getpid(),
            "state": "starting",
            "step": 0,
            "settings": dict(settings or {}),
            "started": None,
            "ended": None,
            "latest": dict.fromkeys(LATEST.values()),
        }
        self._sequence = 0
        self._closed = False

    # ---- the run's side

    def publish(self, event: Event, record: Mapping[str, Any]) -> None:
        """Tell everybody of an event, `record` for JSON. Called by the run between steps."""
        with self._lock:
            self._sequence += 1
            message = {"sequence": self._sequence, "time": time.time(), **record}
            self._events.append(message)
            self._note(event, message)
            for listener in self._listeners:
                listener.push(message)
            if isinstance(event, Changed) and not event.replayed:
                self._answer(event)
            if isinstance(event, Ended):
                self._give_up(event.step)

    def close(self) -> None:
        """Nothing comes any more: listeners may go once they have read what waits."""
        with self._lock:
            self._closed = True
            self._state["state"] = "ended"
            self._give_up(self._state["step"])
            for listener in self._listeners:
                listener.end()

    # ---- the listeners' side

    def state(self) -> dict[str, Any]:
        """How the run is, as an object for JSON."""
        with self._lock:
            return self._state_now()

    def events(self, after: int, limit: int) -> tuple[list[dict[str, Any]], int]:
        """Events with a higher number than `after`, oldest first, and how many are gone."""
        with self._lock:
            found = [one for one in self._events if one["sequence"] > after][:limit]
            return found, self._missing(after)

    def listen(self, listener: Listener, after: int | None = None) -> None:
        """Add a listener, who first hears how the run is, then what was kept after that number,
        and then everything. Between the three there is no gap."""
        with self._lock:
            past: list[dict[str, Any]] = []
            missing = 0
            if after is not None:
                past = [one for one in self._events if one["sequence"] > after]
                missing = self._missing(after) + max(0, len(past) - REPLAYED_EVENTS)
            listener.push({"event": "hello", "missing": missing, **self._state_now()})
            for message in past[-REPLAYED_EVENTS:]:
                listener.push(message)
            if self._closed:
                listener.end()
            self._listeners.append(listener)

    @property
    def num_slow(self) -> int:
        """Listeners that lost their place and have not left yet."""
        with self._lock:
            return sum(1 for one in self._listeners if one.missed)

    def leave(self, listener: Listener) -> None:
        with self._lock:
            self._listeners = [one for one in self._listeners if one is not listener]

    def order(self, order: Order, on_answer: OnAnswer) -> None:
        """Pass an order on to the run. `on_answer` is called once, here or by the run's thread.

        An id is carried out once: who sends an order again, not knowing whether it arrived, gets
        the answer that it had."""
        command = order.command
        with self._lock:
            if (known := self._answers.get(command.id)) is not None:
                self._check_same(command.name, command.arguments, known.command, known.arguments)
                on_answer(known)
                return
            if (waiting := self._waiting.get(command.id)) is not None:
                other = waiting[0].command
                self._check_same(command.name, command.arguments, other.name, other.arguments)
                waiting[1].append(on_answer)
                return
            if self._state["state"] == "ended":
                raise Refused("run_ended", "the run is over")
            if len(self._waiting) >= MOST_WAITING:
                raise Refused(
                    "too_many_commands", f"{MOST_WAITING} commands have not taken effect yet"
                )
            self._waiting[command.id] = (order, [on_answer])
            self._commands.put(command, order.at)

    # ---- inside, with the lock held

    def _state_now(self) -> dict[str, Any]:
        return {
            **self._state,
            "settings": dict(self._state["settings"]),
            "latest": dict(self._state["latest"]),
            "sequence": self._sequence,
            "waiting": list(self._waiting),
        }

    def _missing(self, after: int) -> int:
        oldest = self._events[0]["sequence"] if self._events else self._sequence + 1
        return int(max(0, oldest - 1 - after))

    def _note(self, event: Event, message: dict[str, Any]) -> None:
        state = self._state
        state["step"] = event.step
        if (latest := LATEST.get(type(event))) is not None:
            state["latest"][latest] = message
        elif isinstance(event, Started):
            state.update(state="running", started=message)
        elif isinstance(event, Paused):
            state["state"] = "paused"
        elif isinstance(event, Ended):
            state.update(state="ended", ended=message)
        elif isinstance(event, Changed) and event.error is None:
            if event.command == "set":
                state["settings"].update(message["arguments"])
            elif event.command == "resume":
                state["state"] = "running"

    def _answer(self, event: Changed) -> None:
        waiting = self._waiting.pop(event.id, None)
        if waiting is None:
            return  # it came from the run's own process: a signal, say
        code = None if event.error is None else "command_refused"
        told = waiting[0].command.arguments
        self._settle(
            Answer(event.id, event.command, told, event.step, event.error, code), waiting[1]
        )

    def _give_up(self, step: int) -> None:
        for id_, (order, told) in self._waiting.items():
            command = order.command
            why = "the run ended before it took effect"
            self._settle(Answer(id_, command.name, command.arguments, step, why, "run_ended"), told)
        self._waiting.clear()

    def _settle(self, answer: Answer, told: list[OnAnswer]) -> None:
        self._answers[answer.id] = answer
        if len(self._answers) > KEPT_ANSWERS:
            self._answers.popitem(last=False)
        for on_answer in told:
            on_answer(answer)

    @staticmethod
    def _check_same(
        name: str, arguments: Mapping[str, Any], known: str, before: Mapping[str, Any]
    ) -> None:
        if name != known or dict(arguments) != dict(before):
            raise Refused("id_used", f"another command, '{known}', had this id")
