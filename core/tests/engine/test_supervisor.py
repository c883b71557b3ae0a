"""What the host of a worker does itself: deadlines, cancels, listeners, and what cannot be said."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from llama_core.contracts.postprocessor import Piece
from llama_core.engine import wire
from llama_core.engine.engine import Engine
from llama_core.engine.faults import DeadlineExceeded
from llama_core.engine.request import Update
from llama_core.engine.supervisor import Patience
from llama_core.engine.worker import Worker

from .test_worker import QUICK, WATCHDOG_SECONDS, expected, until, worker
from .toy import Letters, Toy, ask, collect, make

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


def told(engine: Engine, also: list[Update]) -> list[Update]:
    """Everything a host hears of an engine's requests, beside what a fault puts among it."""
    host, guest = socket.socketpair()
    with host, guest:
        for end in (host, guest):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        said = Worker(guest)
        said.engine = engine
        while engine.has_work:
            said._tell([*engine.step(), *also])
            also = []
        guest.shutdown(socket.SHUT_WR)
        data = b"".join(iter(lambda: host.recv(1 << 16), b""))
    messages = wire.Unpacker().feed(data)
    return [wire.to_update(update) for message in messages for update in message["updates"]]


def test_the_updates_of_a_step_go_in_as_many_messages_as_they_need(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 4000)
    engine = make(Toy(200), tokenizer=Letters())
    requests = [ask(f"r{n}", tuple(range(1, 12)), prompt_logprobs=5) for n in range(9)]
    for request in requests:
        engine.add(request)
    answers = collect(told(engine, []))
    for request in requests:
        assert answers[request.id, 0].tokens == expected(request)


def test_what_no_message_holds_is_the_error_of_its_own_request(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(wire, "MOST_BYTES", 4000)
    engine = make(Toy(200), tokenizer=Letters())
    engine.add(ask("large", tuple(range(1, 20)) * 3, prompt_logprobs=20))
    engine.add(ask("good"))
    answers = collect(told(engine, []))
    assert "what request 'large' was to be told cannot leave" in str(answers["large", 0].error)
    assert "a message may have 4000 bytes" in str(answers["large", 0].error)
    assert answers["good", 0].tokens == expected(ask())


def test_what_is_no_json_ends_every_choice_of_its_own_request() -> None:
    engine = make(Toy(200), tokenizer=Letters())
    engine.add(ask("bad", n=3, max_tokens=40))
    engine.add(ask("good"))
    while len(engine._open["bad"]) < 3:
        engine.step()
    answers = collect(told(engine, [Update("bad", 1, pieces=[Piece(data={"a": object()})])]))
    for choice in range(3):
        assert answers["bad", choice].error.code == "wire_invalid"
    assert [u.last for c in range(3) for u in answers["bad", c].updates].count(True) == 1
    assert answers["good", 0].finish == "length"


def test_a_deadline_runs_before_the_worker_is_ready() -> None:
    with worker(start_seconds=20.0) as engine:
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.3 s has passed"):
            engine.generate(ask(deadline_seconds=0.3))
        assert time.monotonic() - began < 10
        assert engine.state == "starting"
        assert engine.num_open == 0


def test_a_deadline_runs_while_a_worker_is_started_again() -> None:
    patience = Patience(first_backoff_seconds=20, longest_backoff_seconds=20)
    with worker(patience) as engine:
        until(lambda: engine.state == "ready")
        os.kill(engine.pid or 0, signal.SIGKILL)
        until(lambda: engine.state == "restarting")
        with pytest.raises(DeadlineExceeded, match=r"the deadline of 0\.2 s"):
            engine.generate(ask(deadline_seconds=0.2))
        assert engine.state == "restarting"


def test_a_deadline_in_the_worker_is_told_as_it_was_given() -> None:
    with worker(pause_seconds=0.02) as engine:
        until(lambda: engine.state == "ready")
        with pytest.raises(DeadlineExceeded, match=r"the deadline of 1\.5 s has passed"):
            engine.generate(ask(max_tokens=500, deadline_seconds=1.5))


def test_who_cancelled_before_a_crash_is_not_computed_again() -> None:
    with worker(Patience(first_backoff_seconds=0.01), pause_seconds=3.0) as engine:
        until(lambda: engine.state == "ready")
        request = ask("gone")
        box = engine._open(request, None)
        until(lambda: "gone" in engine._held)
        engine._forget("gone", box)
        until(lambda: not engine._orders and not engine._outgoing)
        os.kill(engine.pid or 0, signal.SIGKILL)
        until(lambda: engine.num_restarts == 1 and engine.state == "ready")
        assert engine.num_open == 0
        assert not engine._held


def test_a_listener_that_fails_is_told_of_once_and_ends_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with worker() as engine, caplog.at_level(logging.WARNING, "llama_core"):
        engine._on_state = lambda state, reason: [][1]
        for _ in range(2):
            os.kill(until_pid(engine), signal.SIGKILL)
            assert engine.generate(ask()).choices[0].finish == "length"
    assert caplog.text.count("on_state failed, which is said once: IndexError") == 1
    assert engine._wake_read.fileno() == engine._wake_write.fileno() == -1


def until_pid(engine: object) -> int:
    until(lambda: engine.state == "ready" and engine.pid is not None)  # type: ignore[attr-defined]
    return int(engine.pid)  # type: ignore[attr-defined]


HOST = """
import sys, time
from llama_core.engine.supervisor import WorkerEngine
engine = WorkerEngine("toy:serve", {"log": sys.argv[1], "start_seconds": float(sys.argv[2])})
while sys.argv[2] == "0" and engine.state != "ready":
    time.sleep(0.01)
print(flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("start_seconds", ["0", "600"])
def test_a_killed_host_leaves_neither_a_process_nor_a_folder(
    tmp_path: Path, start_seconds: str
) -> None:
    log = tmp_path / "log"
    folder = tempfile.mkdtemp(prefix="ll", dir="/tmp")  # a socket's path may not be long
    here = str(Path(__file__).parent)
    env = {**os.environ, "TMPDIR": folder, "PYTHONPATH": here}
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(log), start_seconds],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
    )
    assert host.stdout is not None
    host.stdout.readline()
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    until(lambda: not os.listdir(folder))
    host.kill()
    _, said = host.communicate(timeout=WATCHDOG_SECONDS)  # until the worker has let go of it too
    assert said == b"", "the worker ends without a word"
    os.rmdir(folder)


def test_a_hang_says_what_to_raise() -> None:
    lost = QUICK.lost(ready=True)
    assert lost.remedy is not None
    assert "Patience.hang_seconds" in lost.remedy
    assert "Patience.start_seconds" in str(QUICK.lost(ready=False).remedy)
