"""Events reach their listeners in order, on a thread of their own that slows nobody and ends."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llama_core import hookspecs
from llama_core.catalogue import State
from llama_core.events import (
    EVENT_NAMES,
    EVENTS,
    Event,
    Events,
    ModelLoaded,
    PluginFailed,
    PluginLoaded,
    Shutdown,
)
from llama_core.testing.site import Site

Install = Callable[..., Path]
VALUES = {"str": "x", "int": 1, "float": 1.5, "bool": True, "float | None": None}

LISTENER = """
from llama_core import hookimpl
HEARD = []

@hookimpl
def llama_shutdown(event):
    HEARD.append(event)
"""
LISTENS = {"provides": [], "manifest": {"listens": ["shutdown"]}}


def sample(event: type[Event]) -> Event:
    own = [one for one in dataclasses.fields(event) if one.name != "time"]
    return event(**{one.name: VALUES[str(one.type)] for one in own})


def wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 10
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
    return condition()


class TestPayloads:
    @pytest.mark.parametrize("event", EVENTS, ids=EVENT_NAMES)
    def test_every_event_is_typed_frozen_and_timed(self, event: type[Event]) -> None:
        before = time.time()
        one = sample(event)
        assert before <= one.time <= time.time()
        assert event.name == one.name
        with pytest.raises(dataclasses.FrozenInstanceError):
            one.time = 0  # type: ignore[misc]
        with pytest.raises(TypeError):
            event(nonsense=1)  # type: ignore[call-arg]

    @pytest.mark.parametrize("event", EVENTS, ids=EVENT_NAMES)
    def test_every_event_has_its_hook_and_reaches_a_plugin(
        self, site: Site, install: Install, event: type[Event]
    ) -> None:
        assert getattr(hookspecs, f"llama_{event.name}").__doc__
        source = LISTENER.replace("llama_shutdown", f"llama_{event.name}")
        install("ear", source, provides=[], manifest={"listens": [event.name]})
        with site.plugins() as plugins:
            plugins.start()
            assert plugins.events.flush()
            one = sample(event)
            plugins.emit(one)
            assert plugins.events.flush()
            assert sys.modules["llama_plugin_ear"].HEARD[-1] is one  # type: ignore[attr-defined]


class TestDelivery:
    def test_applications_hear_first_then_plugins_by_name(self) -> None:
        events, order = Events(), []
        for plugin in ("b", None, "a", "c", None):
            label = plugin or f"application {len(order)}"
            events.subscribe(Shutdown, lambda _, who=label: order.append(who), plugin=plugin)
        for label in ("first", "second"):
            events.subscribe(Shutdown, lambda _, who=label: order.append(who))
        events.emit(Shutdown(reason="x"))
        assert events.flush()
        assert order == ["application 0", "application 0", "first", "second", "a", "b", "c"]

    def test_events_come_in_the_order_in_which_they_were_emitted(self) -> None:
        events, heard = Events(), []
        events.subscribe(Event, heard.append)
        sent: list[Event] = [sample(EVENTS[i % len(EVENTS)]) for i in range(500)]
        for one in sent:
            events.emit(one)
        assert events.flush()
        assert heard == sent

    def test_a_listener_hears_only_what_it_asked_for(self) -> None:
        events = Events()
        some: list[Event] = []
        every: list[Event] = []
        events.subscribe(ModelLoaded, some.append)
        events.subscribe(Event, every.append)
        for event in EVENTS:
            events.emit(sample(event))
        assert events.flush()
        assert [one.name for one in some] == ["model_loaded"]
        assert [one.name for one in every] == list(EVENT_NAMES)

    def test_who_unsubscribed_hears_no_more(self) -> None:
        events, heard = Events(), []
        stop = events.subscribe(Shutdown, lambda event: heard.append(event.reason))
        events.subscribe(Shutdown, lambda event: None)
        events.emit(Shutdown(reason="first"))
        assert events.flush()
        stop()
        stop()  # twice is allowed
        events.emit(Shutdown(reason="second"))
        assert events.flush()
        assert heard == ["first"]

    def test_one_callable_may_listen_twice_and_leave_once(self) -> None:
        events, heard = Events(), []
        stop = events.subscribe(Shutdown, heard.append)
        events.subscribe(Shutdown, heard.append)
        stop()
        events.emit(Shutdown(reason="x"))
        assert events.flush()
        assert len(heard) == 1

    def test_a_listener_may_emit_subscribe_and_unsubscribe(self) -> None:
        events, heard = Events(), []

        def first(event: Shutdown) -> None:
            stop()
            events.subscribe(PluginLoaded, heard.append)
            events.emit(PluginLoaded(plugin="x", version="1"))
            heard.append(event)
            assert not events.flush(0.01)  # it cannot wait for itself

        stop = events.subscribe(Shutdown, first)
        events.emit(Shutdown(reason="x"))
        assert events.flush()
        assert [one.name for one in heard] == ["shutdown", "plugin_loaded"]

    @pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt, BaseException])
    def test_an_application_s_listener_that_fails_ends_nothing(
        self, error: type[BaseException], said: list[str]
    ) -> None:
        events, heard = Events(), []

        def broken(event: Event) -> None:
            raise error("broken on purpose")

        events.subscribe(Shutdown, broken)
        events.subscribe(Shutdown, heard.append)
        for _ in range(2):
            events.emit(Shutdown(reason="x"))
        assert events.flush()
        assert len(heard) == 2
        assert said == ["a listener of shutdown failed"] * 2


class TestQueue:
    def test_a_slow_listener_slows_no_emit(self) -> None:
        events, gate = Events(), threading.Event()
        events.subscribe(Shutdown, lambda event: gate.wait(20))
        began = time.monotonic()
        for _ in range(1000):
            events.emit(Shutdown(reason="x"))
        assert time.monotonic() - began < 2
        assert not events.flush(0.01)
        gate.set()
        assert events.flush()

    def test_past_the_bound_the_oldest_are_dropped_counted_and_told_of_once(
        self, said: list[str]
    ) -> None:
        events, gate, heard = Events(queue_length=10), threading.Event(), []

        def slow(event: Shutdown) -> None:
            gate.wait(20)
            heard.append(event.reason)

        events.subscribe(Shutdown, slow)
        events.emit(Shutdown(reason="first"))
        assert wait_for(lambda: not events._queue)  # the first is with the listener
        for i in range(25):
            events.emit(Shutdown(reason=str(i)))
        gate.set()
        assert events.flush()
        assert heard == ["first", *map(str, range(15, 25))]
        assert events.num_dropped == 15
        assert said == [
            "a listener is too slow: more than 10 events wait and the oldest are being dropped "
            "(counted in Events.num_dropped)"
        ]

    def test_what_nobody_hears_costs_no_thread(self) -> None:
        before = threading.active_count()
        events = Events()
        events.subscribe(ModelLoaded, lambda event: None)
        for _ in range(100):
            events.emit(Shutdown(reason="x"))
        assert events.flush()
        assert threading.active_count() == before

    def test_an_idle_dispatcher_ends_and_the_next_event_starts_another(self) -> None:
        events, heard = Events(idle_seconds=0.02), []
        before = set(threading.enumerate())
        events.subscribe(Shutdown, heard.append)
        for round_ in range(1, 4):
            events.emit(Shutdown(reason="x"))
            assert events.flush()
            assert len(heard) == round_
            assert wait_for(lambda: not set(threading.enumerate()) - before)

    def test_no_event_is_lost_between_two_dispatchers(self) -> None:
        events, heard = Events(idle_seconds=0.001), []
        events.subscribe(Shutdown, heard.append)
        for i in range(200):
            events.emit(Shutdown(reason=str(i)))
            time.sleep(0.0005 * (i % 5))
        assert events.flush()
        assert [one.reason for one in heard] == [str(i) for i in range(200)]

    def test_many_threads_may_emit_at_once(self) -> None:
        events, heard = Events(), []
        events.subscribe(Shutdown, heard.append)
        threads = [
            threading.Thread(target=lambda: [events.emit(Shutdown(reason="x")) for _ in range(200)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert events.flush()
        assert len(heard) == 1600

    def test_where_no_thread_can_be_had_emit_does_not_raise(self, said: list[str]) -> None:
        events, heard = Events(), []
        events.subscribe(Shutdown, heard.append)
        size = threading.stack_size()
        try:
            threading.stack_size(1 << 46)  # more than there is address space
            events.emit(Shutdown(reason="first"))
        finally:
            threading.stack_size(size)
        assert said == ["events wait undelivered: can't start new thread"]
        events.emit(Shutdown(reason="second"))  # as soon as there is one again, both are heard
        assert events.flush()
        assert [one.reason for one in heard] == ["first", "second"]


FORK = """
import os, sys, threading, warnings
warnings.simplefilter("ignore")
from llama_core.events import Events, Shutdown

events, heard, gate = Events(), [], threading.Event()
events.subscribe(Shutdown, lambda event: (event.reason == "slow" and gate.wait(20)))
events.subscribe(Shutdown, lambda event: heard.append(event.reason))
events.emit(Shutdown(reason="slow"))
events.emit(Shutdown(reason="waits in the parent"))
events._changed.acquire()  # the worst moment to fork
pid = os.fork()
if pid == 0:
    heard.clear()
    events.emit(Shutdown(reason="child"))
    os._exit(0 if events.flush(10) and heard == ["child"] else 1)
events._changed.release()
_, status = os.waitpid(pid, 0)
gate.set()
assert events.flush(10)
assert heard == ["slow", "waits in the parent"], heard
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_has_a_queue_and_a_thread_of_its_own() -> None:
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


class TestPlugins:
    def test_starting_activates_the_plugins_that_listen_and_no_others(
        self, site: Site, install: Install
    ) -> None:
        install("ear", LISTENER, **LISTENS)
        install("deaf")
        with site.plugins() as plugins:
            assert "llama_plugin_ear" not in sys.modules
            plugins.start()
            plugins.start()
            plugins.emit(Shutdown(reason="x"))
            assert plugins.events.flush()
            heard: list[Any] = sys.modules["llama_plugin_ear"].HEARD  # type: ignore[attr-defined]
            assert [one.reason for one in heard] == ["x"]
            assert "llama_plugin_deaf" not in sys.modules
            assert plugins["deaf"].state is State.READY

    def test_a_disabled_listener_is_not_started_and_not_lamented(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("ear", LISTENER, **LISTENS)
        with site.plugins(disable=("ear",)) as plugins:
            plugins.start()
            assert "llama_plugin_ear" not in sys.modules
        assert said == []

    def test_loading_and_failing_are_events(self, site: Site, install: Install) -> None:
        install("good", version="1.2")
        install("bad", "1 / 0")
        seen: list[Event] = []
        with site.plugins() as plugins:
            plugins.events.subscribe(Event, seen.append)
            plugins.create("transform", "good")
            with pytest.raises(Exception, match="ZeroDivisionError"):
                plugins.create("transform", "bad")
            assert plugins.events.flush()
        loaded, failed = seen
        assert isinstance(loaded, PluginLoaded)
        assert (loaded.plugin, loaded.version) == ("good", "1.2")
        assert isinstance(failed, PluginFailed)
        assert (failed.plugin, failed.quarantined) == ("bad", True)
        assert failed.reason.startswith("ZeroDivisionError: division by zero (")

    def test_an_application_may_bring_its_own_queue(self, site: Site) -> None:
        events = Events()
        with site.plugins(events=events) as plugins:
            assert plugins.events is events

    def test_plugins_that_have_gone_leave_no_thread(self, site: Site, install: Install) -> None:
        install("ear", LISTENER, **LISTENS)
        before = set(threading.enumerate())
        events = Events(idle_seconds=0.02)
        with site.plugins(events=events, hook_timeout_seconds=0.04) as plugins:
            plugins.start()
            plugins.emit(Shutdown(reason="x"))
            assert plugins.events.flush()
        assert wait_for(lambda: not set(threading.enumerate()) - before)
