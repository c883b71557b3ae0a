"""The engine in another process: the same answers, and a last word whatever happens to it."""

from __future__ import annotations

import os
import pickle
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from llama_core.engine import wire
from llama_core.engine.faces import Face, ThreadedEngine
from llama_core.engine.faults import EngineClosed, InvalidRequest, WorkerDied
from llama_core.engine.request import Link, Request
from llama_core.engine.search import beam_search, best_of
from llama_core.engine.supervisor import Patience, WorkerEngine
from llama_core.errors import LlamaError

from .toy import SAMPLED, Letters, Toy, ask, make, run

WATCHDOG_SECONDS = 60.0
QUICK = Patience(
    start_seconds=30, hang_seconds=1.0, first_backoff_seconds=0.01, longest_backoff_seconds=0.05
)

pytestmark = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WATCHDOG_SECONDS
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.002)


@contextmanager
def worker(patience: Patience = QUICK, **options: Any) -> Iterator[WorkerEngine]:
    here = str(Path(__file__).parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}
    with WorkerEngine("toy:serve", options, patience=patience, env=env) as engine:
        yield engine


def expected(request: Request) -> list[int]:
    return list(run(make(Toy(128)), request)[request.id, 0].tokens)


@pytest.fixture(scope="module")
def calm() -> Iterator[WorkerEngine]:
    with worker() as engine:
        yield engine


# ----------------------------------------------------------------- the same answers


def test_it_answers_as_the_engine_in_process_does(calm: WorkerEngine) -> None:
    requests = [ask(f"r{n}", (1, n), seed=n, **SAMPLED) for n in range(20)]
    for request, result in zip(requests, calm.batch(requests), strict=True):
        assert result.choices[0].tokens == expected(request)
        assert result.choices[0].text


def test_everything_travels(calm: WorkerEngine) -> None:
    result = calm.generate(ask(n=2, logprobs=2, prompt_logprobs=1, seed=1, stop=("q",), **SAMPLED))
    assert len(result.choices) == 2
    assert result.choices[1].logprobs[0].top[0][1] <= 0
    assert result.prompt_logprobs is not None
    assert result.prompt_logprobs[0] is None
    hidden = calm.generate(ask(pooling="last", max_tokens=None)).choices[0].hidden
    there = run(make(), ask(pooling="last", max_tokens=None))["r", 0].updates[-1].hidden
    assert hidden.tolist() == there.tolist()


CALLS: dict[str, Callable[[Face], Any]] = {
    "n": lambda face: face.generate(ask(n=3, seed=1, **SAMPLED)),
    "prompt logprobs": lambda face: face.generate(ask(prompt_logprobs=2, logprobs=1)),
    "mean": lambda face: face.generate(ask(pooling="mean", max_tokens=None)),
    "last": lambda face: face.generate(ask(pooling="last", max_tokens=None)),
    "best of": lambda face: best_of(face, ask(n=2, seed=1, **SAMPLED), 5),
    "beams": lambda face: beam_search(face, ask(max_tokens=6), 3, ends=frozenset({3})),
    "batch": lambda face: list(face.batch(ask(f"r{n}", (1, n)) for n in range(5))),
    "a begun answer": lambda face: face.generate(ask(answer=(4, 5), seed=2, **SAMPLED)),
    "stop": lambda face: face.generate(ask(max_tokens=60, stop=("ab", "e"), include_stop=True)),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_face_gives_the_same_whichever_it_is(
    calm: WorkerEngine, call: Callable[[Face], Any]
) -> None:
    """To the last bit of a log-probability and of a hidden state."""
    with ThreadedEngine(make(Toy(400), tokenizer=Letters(), max_length=600)) as near:
        assert repr(call(calm)) == repr(call(near))


def test_refusals_are_of_the_class_they_had(calm: WorkerEngine) -> None:
    with pytest.raises(InvalidRequest, match="n must be from 1 to 64, not 0") as refused:
        calm.generate(ask(n=0))
    assert refused.value.param == "n"
    with pytest.raises(LlamaError, match="cannot travel"):
        calm.generate(ask(transforms=(abs,)))
    with pytest.raises(LlamaError, match="cannot travel"):
        calm.generate(ask(transforms=(Link("top-k", {"k": {1}}),)))
    assert calm.generate(ask()).choices[0].finish == "length"


def test_closing_a_stream_cancels_there() -> None:
    with worker(pause_seconds=0.01) as engine:
        with closing(engine.stream(ask(max_tokens=500))) as updates:
            next(updates)
        until(lambda: engine.num_open == 0)
        assert len(engine.generate(ask()).choices[0].tokens) == 8


def test_closing_the_face_ends_the_process_and_the_requests() -> None:
    with worker(pause_seconds=0.01) as engine:
        updates = engine.stream(ask(max_tokens=500))
        next(updates)
        pid = engine.pid
        assert pid is not None
    assert list(updates)[-1].error.code == "engine_closed"
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(EngineClosed):
        engine.generate(ask())
    assert engine.state == "closed"


# ------------------------------------------------------------------- its many deaths


def test_a_request_that_was_heard_of_ends_with_an_error_and_its_id() -> None:
    with worker(pause_seconds=0.01) as engine:
        updates = engine.stream(ask("lost", max_tokens=500))
        next(updates)
        assert engine.pid is not None
        os.kill(engine.pid, signal.SIGKILL)
        *_, last = updates
        assert isinstance(last.error, WorkerDied)
        assert "'lost'" in str(last.error)
        assert "signal 9" in str(last.error)
        assert len(engine.generate(ask()).choices[0].tokens) == 8
        assert engine.num_restarts == 1


def test_every_choice_that_was_heard_of_ends() -> None:
    with worker(pause_seconds=0.02) as engine:
        updates = engine.stream(ask(n=3, max_tokens=500))
        next(updates)
        time.sleep(0.1)
        os.kill(engine.pid or 0, signal.SIGKILL)
        rest = list(updates)
        assert sorted(u.choice for u in rest if u.finish == "error") == [0, 1, 2]
        assert [u.last for u in rest].count(True) == 1


def test_a_request_that_was_not_is_tried_once_more() -> None:
    with worker() as engine:
        with pytest.raises(WorkerDied, match="exited with status 3"):
            engine.generate(ask(prompt=(30, 1)))
        assert engine.num_restarts == 2, "it killed the second worker as well, and no third"
        assert engine.generate(ask()).choices[0].finish == "length"


def test_a_neighbour_of_a_crash_is_tried_again_and_answered() -> None:
    with worker(pause_seconds=0.2) as engine:
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(engine.generate(ask("good"))))
        until(lambda: engine.state == "ready")
        thread.start()
        until(lambda: engine.num_open == 1)
        os.kill(engine.pid or 0, signal.SIGKILL)
        thread.join(WATCHDOG_SECONDS)
        assert found[0].choices[0].tokens == expected(ask())


def test_a_hang_is_ended() -> None:
    with worker() as engine:
        with pytest.raises(WorkerDied, match="has not said a word for 1 s"):
            engine.generate(ask(prompt=(31, 1)))
        assert engine.generate(ask()).choices[0].finish == "length"


def test_a_stopped_worker_is_ended_too() -> None:
    with worker(pause_seconds=0.01) as engine:
        updates = engine.stream(ask(max_tokens=500))
        next(updates)
        os.kill(engine.pid or 0, signal.SIGSTOP)
        assert isinstance(list(updates)[-1].error, WorkerDied)


def test_an_idle_worker_is_left_alone() -> None:
    with worker(Patience(hang_seconds=0.05)) as engine:
        assert engine.generate(ask()).choices[0].finish == "length"
        pid = engine.pid
        time.sleep(0.3)
        assert engine.generate(ask()).choices[0].finish == "length"
        assert engine.pid == pid


def test_a_worker_that_dies_again_and_again_is_given_up() -> None:
    patience = Patience(most_failures=3, first_backoff_seconds=0.01)
    states = []
    with worker(patience) as engine:
        engine._on_state = lambda state, reason: states.append(state)
        for _ in range(3):
            with pytest.raises(LlamaError):
                engine.generate(ask(prompt=(30,)))
        until(lambda: engine.state == "broken")
        with pytest.raises(WorkerDied):
            engine.generate(ask())
    assert "restarting" in states


def test_what_cannot_start_says_why_at_once() -> None:
    with worker(broken=True) as engine:
        with pytest.raises(LlamaError, match="no such model"):
            engine.generate(ask())
        assert engine.num_restarts == 0
    with (
        WorkerEngine("no.such.module:engine") as engine,
        pytest.raises(LlamaError, match=r"No module named 'no'"),
    ):
        engine.generate(ask())
    with pytest.raises(LlamaError, match="plain JSON"):
        WorkerEngine("toy:serve", {"x": object()})


def kill_under_load(kills: int) -> None:
    """Many threads ask while the worker is killed again and again: nobody is left waiting."""
    rng = random.Random(1)
    outcomes: dict[str, str] = {}
    accepted: list[str] = []
    over = threading.Event()
    patience = Patience(first_backoff_seconds=0.01, longest_backoff_seconds=0.02, most_failures=50)
    with worker(patience, pause_seconds=0.002) as engine:

        def client(number: int) -> None:
            turn = 0
            while not over.is_set():
                turn += 1
                request = ask(f"{number}.{turn}", (1, number), max_tokens=1 + turn % 30)
                accepted.append(request.id)
                try:
                    result = engine.generate(request)
                except WorkerDied as error:
                    outcomes[request.id] = "errored" if repr(request.id) in str(error) else "?"
                else:
                    assert len(result.choices[0].tokens) == 1 + turn % 30
                    outcomes[request.id] = "completed"

        clients = [threading.Thread(target=client, args=(n,)) for n in range(8)]
        for thread in clients:
            thread.start()
        for kill in range(kills):
            until(lambda: engine.state == "ready" and engine.pid is not None)
            time.sleep(rng.random() * 0.15)
            pid = engine.pid
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            until(lambda kill=kill: engine.num_restarts > kill)  # type: ignore[misc]
        over.set()
        for thread in clients:
            thread.join(WATCHDOG_SECONDS)
            assert not thread.is_alive(), "a client still waits"
        assert engine.num_open == 0
    assert sorted(outcomes) == sorted(accepted), "accepted = completed + errored"
    assert set(outcomes.values()) == {"completed", "errored"}


def test_ten_kills_lose_no_request() -> None:
    kill_under_load(10)


@pytest.mark.slow
def test_a_hundred_kills_lose_no_request() -> None:
    kill_under_load(100)


# --------------------------------------------------------------------------- the wire


def pair() -> tuple[socket.socket, socket.socket]:
    left, right = socket.socketpair()
    left.settimeout(5)
    right.settimeout(5)
    return left, right


def answer(guest: socket.socket, key: bytes, failed: list[Exception]) -> None:
    try:
        wire.answer(guest, key)
    except wire.WireError as error:
        failed.append(error)


def test_both_ends_must_hold_the_key() -> None:
    for theirs, good in ((b"k" * 32, True), (b"x" * 32, False)):
        host, guest = pair()
        with host, guest:
            failed: list[Exception] = []
            thread = threading.Thread(target=answer, args=(guest, theirs, failed))
            thread.start()
            try:
                wire.greet(host, b"k" * 32)
                assert good
            except wire.WireError:
                assert not good
                host.close()
            thread.join()
            assert bool(failed) is not good


def test_a_proof_cannot_be_reflected() -> None:
    """Who merely repeats what the host says does not get in."""
    host, guest = pair()
    with host, guest:
        thread = threading.Thread(target=lambda: guest.sendall(guest.recv(32) * 2))
        thread.start()
        with pytest.raises(wire.WireError, match="does not hold the key"):
            wire.greet(host, b"k" * 32)
        thread.join()


class Canary:
    def __reduce__(self) -> Any:
        return os.putenv, ("LLAMA_CANARY", "dead")


def test_a_pickle_is_only_bytes() -> None:
    data = pickle.dumps(Canary())
    for framed in (data, wire.HEAD.pack(len(data)) + data):
        with pytest.raises(wire.WireError):
            wire.Unpacker().feed(framed)
    assert "LLAMA_CANARY" not in os.environ


def test_messages_survive_any_cut() -> None:
    messages = [{"type": "add", "n": n, "text": "é" * n} for n in range(20)]
    data = b"".join(wire.pack(m) for m in messages)
    for step in (1, 2, 3, 7, 64, len(data)):
        unpacker = wire.Unpacker()
        got = [m for at in range(0, len(data), step) for m in unpacker.feed(data[at : at + step])]
        assert got == messages


@pytest.mark.parametrize(
    "data",
    [
        wire.HEAD.pack(wire.MOST_BYTES + 1),
        wire.HEAD.pack(2) + b"[]",
        wire.HEAD.pack(2) + b"{}",
        wire.HEAD.pack(1) + b"{",
        wire.HEAD.pack(2) + b"\xff\xff",
        wire.HEAD.pack(100_000) + b"[" * 100_000,
    ],
)
def test_bad_messages_are_refused(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.Unpacker().feed(data)


def test_requests_are_the_same_after_the_journey() -> None:
    request = ask(
        transforms=(Link("top-k", {"k": 3}),),
        stop=("a", "b"),
        stop_tokens=frozenset({1, 2}),
        logprobs=1,
        n=2,
        answer=(4, 5),
        deadline_seconds=1.5,
        tenant="t",
    )
    assert wire.to_request(wire.from_request(request)) == request


@pytest.mark.parametrize("field", ["prompt", "params", "answer"])
@pytest.mark.parametrize("value", [None, 1, "x", [None], {"a": 1}, [[]]])
def test_malformed_requests_are_refused(field: str, value: object) -> None:
    message = wire.from_request(ask())
    message[field] = value
    with pytest.raises(wire.WireError):
        wire.to_request(message)
    del message[field]
    with pytest.raises(wire.WireError):
        wire.to_request(message)
