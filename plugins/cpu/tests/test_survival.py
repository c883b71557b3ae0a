"""What goes on around a step: forks, signals, other threads, programs within programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from llama_plugin_cpu import native
from llama_plugin_cpu.backend import CpuBackend
from llama_plugin_cpu.program import CpuProgram

from llama_core import Plugins, events
from llama_core.config import Config
from llama_core.contracts.step import Plan
from llama_core.discovery import discover
from llama_core.engine.engine import Engine
from llama_core.engine.request import Limits, Params, Request
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
PROMPT = Part(list(range(1, 25)), owner=0)


def compiled(threads: int = 2) -> CpuProgram:
    return CpuBackend(threads=threads).compile(*tiny.model(), PLAN)


@pytest.fixture
def program() -> Iterator[CpuProgram]:
    one = compiled()
    yield one
    one.close()


def answer(program: CpuProgram) -> np.ndarray:
    return drive.run(program, PROMPT)[0]


@pytest.fixture
def ticking() -> Iterator[list[int]]:
    """A timer that interrupts this thread every millisecond; the list counts how often."""
    ticks = [0]

    def tick(*_: object) -> None:
        ticks[0] += 1

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    yield ticks
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_signals_during_steps_are_handled_and_change_no_bit(program, ticking) -> None:
    """The handlers run, on this thread and not on the pool's, and no step is cut short."""
    whole = answer(program)
    first = ticking[0]
    while ticking[0] < first + 50:
        assert np.array_equal(answer(program), whole)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """A job that a shell starts in the background ignores interrupts, and so none would come."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def step_until(timer: threading.Timer, program: CpuProgram) -> None:
    timer.start()
    while True:
        answer(program)


def test_an_interrupt_ends_the_caller_and_not_the_program(program, interruptible) -> None:
    """Ctrl-C comes in the middle of steps: KeyboardInterrupt, and the next step is whole."""
    whole = answer(program)
    for delay in (0.001, 0.002, 0.005, 0.01, 0.02):
        timer = threading.Timer(delay, signal.raise_signal, (signal.SIGINT,))
        with pytest.raises(KeyboardInterrupt):
            step_until(timer, program)
        timer.join()
        assert np.array_equal(answer(program), whole)


def test_a_handler_may_step_another_program_and_is_refused_its_own(program, ticking) -> None:
    """It interrupts a step, so to wait for that step's end would be to wait for ever."""
    other, whole = compiled(), answer(program)
    refused: list[str] = []
    found: list[np.ndarray] = []
    inside = []

    def tick(*_: object) -> None:
        if inside:
            return  # the handler is interrupted, too
        inside.append(True)
        found.append(answer(other))
        try:
            found.append(answer(program))
        except native.CpuError as error:
            refused.append(str(error))
        inside.clear()

    signal.signal(signal.SIGALRM, tick)
    while len(found) < 40 or not refused:
        assert np.array_equal(answer(program), whole)
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert all(np.array_equal(one, whole) for one in found)
    assert "in the middle of a step" in refused[0]
    other.close()


FORKED = """
import os, sys, threading, warnings
import numpy as np
sys.path.insert(0, {tests!r})
from test_survival import answer, compiled
from llama_plugin_cpu import native
warnings.simplefilter("ignore", DeprecationWarning)  # that a process with threads forks is the test
program, whole, stop = compiled(), None, threading.Event()
whole = answer(program)
def work():
    while not stop.is_set():
        answer(program)
threads = [threading.Thread(target=work) for _ in range(2)]
[one.start() for one in threads]
for number in range(20):
    child = os.fork()
    if not child:
        try:
            answer(program)
            os._exit(1)
        except native.CpuError as error:
            assert "spawn" in str(error), error
        if number % 5 == 0:
            mine = compiled()
            assert np.array_equal(answer(mine), whole)
            mine.close()
        program.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
stop.set()
[one.join() for one in threads]
assert np.array_equal(answer(program), whole)
print("survived")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on Windows")
def test_a_fork_in_the_middle_of_a_step_neither_hangs_nor_runs() -> None:
    """Whatever the threads of the parent held: the child hears so, and compiles one of its own."""
    code = FORKED.format(tests=os.path.dirname(__file__))
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout == "survived\n", done.stderr


def test_a_listener_steps_a_program_while_an_engine_steps_its_own(program) -> None:
    """It is told of every step on a thread of its own, and the engine goes on meanwhile."""
    other, whole = compiled(), answer(program)
    plugins = Plugins(discover([]), Config())
    heard: list[bool] = []

    def same(_: events.Event) -> None:
        heard.append(np.array_equal(answer(other), whole))

    plugins.events.subscribe(events.Shutdown, same)
    engine = Engine(program, Limits(max_rows=16, max_sequences=2, max_length=64), plugins=plugins)
    for number in range(12):
        engine.add(Request(f"r{number}", (1, 2, 3), Params(max_tokens=6)))
    while engine.has_work:
        plugins.events.emit(events.Shutdown(reason="a test"))
        engine.step()
    assert plugins.events.flush(30)
    assert len(heard) >= 12
    assert all(heard)
    engine.close()
    other.close()


def test_programs_on_one_pool_and_programs_made_within_threads(program) -> None:
    """Two stepped from one thread in turn, others made, stepped and closed by threads meanwhile."""
    other, whole = compiled(), answer(program)
    wrong: list[object] = []

    def make(threads: int) -> None:
        for _ in range(5):
            one = compiled(threads)
            wrong.extend(() if np.array_equal(answer(one), whole) else [threads])
            one.close()

    makers = [threading.Thread(target=make, args=(n,)) for n in (1, 2, 3)]
    for one in makers:
        one.start()
    for _ in range(40):
        assert np.array_equal(answer(program), whole)
        assert np.array_equal(answer(other), whole)
    for one in makers:
        one.join(60)
        assert not one.is_alive()
    assert not wrong
    other.close()
