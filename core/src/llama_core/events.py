"""What happens, told to whoever listens: typed payloads and the thread that delivers them.

An event is a frozen object. `Events.emit` puts it into a bounded queue and returns; a dispatcher
thread hands it to the listeners in a stated order, so that no listener can slow a step. Knows
nothing of plugins: a plugin's listener is a callable with a name, like an application's.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar, cast

log = logging.getLogger("llama_core")

QUEUE_LENGTH = 10_000  # events; past it the oldest are dropped, counted and announced


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened, and when (seconds since the epoch)."""

    name: ClassVar[str] = ""
    time: float = field(default_factory=time.time)


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginLoaded(Event):
    """A plugin was imported, checked and activated."""

    name: ClassVar[str] = "plugin_loaded"
    plugin: str
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginFailed(Event):
    """A plugin failed; from now on it may be quarantined."""

    name: ClassVar[str] = "plugin_failed"
    plugin: str
    reason: str
    quarantined: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoaded(Event):
    """A model was compiled and is ready to serve."""

    name: ClassVar[str] = "model_loaded"
    model: str
    backend: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelUnloaded(Event):
    """A model's memory was given back."""

    name: ClassVar[str] = "model_unloaded"
    model: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestQueued(Event):
    """A request was accepted and waits."""

    name: ClassVar[str] = "request_queued"
    request: str
    num_prompt_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestStarted(Event):
    """A request got its first place in a step."""

    name: ClassVar[str] = "request_started"
    request: str
    queue_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFinished(Event):
    """A request ended by itself: stop, length, or an error of its own."""

    name: ClassVar[str] = "request_finished"
    request: str
    reason: str
    num_prompt_tokens: int
    num_output_tokens: int
    seconds: float
    first_token_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancelled(Event):
    """A request was ended from outside: a disconnect, a deadline, a shutdown."""

    name: ClassVar[str] = "request_cancelled"
    request: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainStep(Event):
    """An optimizer step was taken."""

    name: ClassVar[str] = "train_step"
    run: str
    step: int
    loss: float
    learning_rate: float
    tokens_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointWritten(Event):
    """A checkpoint is complete on its storage."""

    name: ClassVar[str] = "checkpoint_written"
    run: str
    step: int
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown(Event):
    """The engine or trainer ends; the last event a listener hears."""

    name: ClassVar[str] = "shutdown"
    reason: str


EVENTS: tuple[type[Event], ...] = (
    PluginLoaded, PluginFailed, ModelLoaded, ModelUnloaded, RequestQueued, RequestStarted,
    RequestFinished, RequestCancelled, TrainStep, CheckpointWritten, Shutdown,
)  # fmt: skip
EVENT_NAMES = tuple(event.name for event in EVENTS)

E = TypeVar("E", bound=Event)
Listener = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class _Subscription:
    order: tuple[int, str, int]
    event: type[Event]
    listener: Listener


# Neither threads nor held locks survive a fork: a child starts with an empty queue of its own.
_everywhere: weakref.WeakSet[Events] = weakref.WeakSet()


def _after_fork() -> None:
    for each in _everywhere:
        each._reset()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Events:
    """The queue, its listeners and their thread. One per `Plugins`; applications may make more.

    Order of delivery: applications first, as they subscribed; then plugins by name.
    """

    def __init__(self, *, queue_length: int = QUEUE_LENGTH, idle_seconds: float = 5.0) -> None:
        self._limit = max(1, queue_length)
        self._idle_seconds = idle_seconds
        self._listeners: tuple[_Subscription, ...] = ()
        self._count = itertools.count()
        self.num_dropped = 0
        self._reset()
        _everywhere.add(self)

    def _reset(self) -> None:
        self._queue: deque[tuple[Event, list[_Subscription]]] = deque()
        self._under_way: tuple[Event, list[_Subscription]] | None = None
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def subscribe(
        self, event: type[E], listener: Callable[[E], None], *, plugin: str | None = None
    ) -> Callable[[], None]:
        """Call `listener` for every such event (`Event` for all); returns what unsubscribes it."""
        if not (isinstance(event, type) and issubclass(event, Event) and callable(listener)):
            raise TypeError(f"subscribe() takes an event class and a function, not {event!r}")
        order = (0 if plugin is None else 1, plugin or "", next(self._count))
        entry = _Subscription(order, event, cast(Listener, listener))
        with self._changed:
            self._listeners = tuple(sorted((*self._listeners, entry), key=lambda one: one.order))

        def unsubscribe() -> None:
            with self._changed:
                self._listeners = tuple(one for one in self._listeners if one is not entry)

        return unsubscribe

    def emit(self, event: Event) -> None:
        """Queue an event; costs microseconds and never raises for a listener's sake."""
        listeners = [one for one in self._listeners if isinstance(event, one.event)]
        if not listeners:
            return
        with self._changed:
            if len(self._queue) >= self._limit:
                self._queue.popleft()
                self.num_dropped += 1
                if self.num_dropped == 1:
                    log.warning(
                        "a listener is too slow: more than %d events wait and the oldest are "
                        "being dropped (counted in Events.num_dropped)",
                        self._limit,
                    )
            self._queue.append((event, listeners))
            self._start()
            self._changed.notify_all()

    def abandon(self) -> None:
        """The listener under way does not return: deliver the rest without waiting for it."""
        with self._changed:
            if self._under_way is not None:
                self._queue.appendleft(self._under_way)
                self._under_way = None
            self._thread = None
            if self._queue:
                self._start()

    def flush(self, timeout_seconds: float = 5.0) -> bool:
        """Wait until everything emitted so far was delivered; False when the time ran out."""
        if threading.current_thread() is self._thread:
            return False  # a listener cannot wait for itself
        with self._changed:
            return self._changed.wait_for(
                lambda: not self._queue and self._under_way is None, timeout_seconds
            )

    def _start(self) -> None:
        if self._thread is None:
            thread = threading.Thread(target=self._run, name="llama-events", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # no threads left, or the interpreter is ending
                log.warning("events wait undelivered: %s", error)
            else:
                self._thread = thread

    def _run(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                self._under_way = None
                self._changed.notify_all()
                # An idle dispatcher ends after a while; the next event starts another.
                if not self._changed.wait_for(lambda: bool(self._queue), self._idle_seconds):
                    self._thread = None
                    return
                event, listeners = self._under_way = self._queue.popleft()
            while listeners:
                one = listeners.pop(0)
                if one in self._listeners:  # it may have unsubscribed since
                    try:
                        one.listener(event)
                    except BaseException:  # nobody is above this thread to tell
                        log.exception("a listener of %s failed", event.name)
                if self._thread is not me:  # abandoned meanwhile: another goes on
                    return
