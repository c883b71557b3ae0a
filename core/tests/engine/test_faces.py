"""Streams, whole answers and batches, for threads and event loops, from an engine in a thread."""

from __future__ import annotations

import asyncio
import gc
import re
import threading
import time
from collections.abc import Callable
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.step import Batch
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.faults import (
    EngineClosed,
    InvalidRequest,
    ProcessorFault,
    ProgramFault,
    QueueFull,
    SamplingFault,
)
from llama_core.engine.request import Link, Params, Request
from llama_core.errors import LlamaError

from .toy import SAMPLED, Letters, Ready, Toy, ask, drain, make, run

WATCHDOG_SECONDS = 20.0


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WATCHDOG_SECONDS
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.002)


def threaded(program: Toy | None = None, **options: Any) -> ThreadedEngine:
    own = {"max_open": options.pop("max_open")} if "max_open" in options else {}
    return ThreadedEngine(make(program, **options), **own)


def expected(request: Request) -> list[int]:
    return list(run(make(), request)[request.id, 0].tokens)


class Slow(Toy):
    def submit(self, batch: Batch) -> Ready:
        time.sleep(0.005)
        return super().submit(batch)


def test_a_whole_answer() -> None:
    with threaded(tokenizer=Letters()) as engine:
        result = engine.generate(ask(n=2, **SAMPLED, seed=1))
    assert [len(c.tokens) for c in result.choices] == [8, 8]
    assert result.choices[0].text == Letters().decode(result.choices[0].tokens)


def test_a_stream_gives_the_same() -> None:
    with threaded() as engine:
        assert [t for u in engine.stream(ask()) for t in u.tokens] == expected(ask())


def test_asyncio_streams_run_side_by_side() -> None:
    async def tokens(engine: ThreadedEngine, number: int) -> list[int]:
        request = ask(f"r{number}", (1, number))
        return [t async for u in engine.astream(request) for t in u.tokens]

    async def main() -> list[list[int]]:
        with threaded() as engine:
            return await asyncio.gather(*(tokens(engine, n) for n in range(20)))

    assert asyncio.run(main()) == [expected(ask("r", (1, n))) for n in range(20)]


def test_threads_share_an_engine_and_engines_share_a_process() -> None:
    found: dict[int, list[int]] = {}
    with threaded() as first, threaded() as second:

        def work(number: int) -> None:
            engine = first if number % 2 else second
            found[number] = engine.generate(ask(f"r{number}", (2, number))).choices[0].tokens

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WATCHDOG_SECONDS)
    assert found == {n: expected(ask("r", (2, n))) for n in range(16)}


def test_closing_a_stream_cancels_the_request() -> None:
    toy = Slow(num_blocks=200)
    with threaded(toy, max_length=600) as engine:
        with closing(engine.stream(ask(max_tokens=500))) as updates:
            next(updates)
        until(lambda: engine.num_open == 0)
        assert engine.engine.counters.finished == {"cancelled": 1}
        assert engine.engine.blocks.num_used() == 0
        assert toy.num_steps < 100
        assert len(engine.generate(ask()).choices[0].tokens) == 8, "its id is free again"


class Gated(Toy):
    """Takes a step only when it is let."""

    def __init__(self) -> None:
        super().__init__(num_blocks=200)
        self.gate = threading.Semaphore(0)
        self.num_begun = 0

    def submit(self, batch: Batch) -> Ready:
        self.num_begun += 1
        assert self.gate.acquire(timeout=WATCHDOG_SECONDS)
        return super().submit(batch)


def test_a_cancel_takes_no_longer_than_the_step_under_way() -> None:
    toy = Gated()
    with threaded(toy, max_length=600) as engine:
        updates = engine.stream(ask(max_tokens=500))
        toy.gate.release()
        next(updates)
        until(lambda: toy.num_begun == 2)
        updates.close()
        toy.gate.release()
        until(lambda: engine.num_open == 0)
        assert toy.num_begun == 2, "another step was begun for nobody"
        assert engine.engine.blocks.num_used() == 0


def test_cancelling_a_task_cancels_the_request() -> None:
    async def main() -> None:
        with threaded(Slow(num_blocks=200), max_length=600) as engine:
            task = asyncio.create_task(engine.agenerate(ask(max_tokens=500)))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            async with aclosing(engine.astream(ask("other", max_tokens=500))) as updates:
                async for _ in updates:
                    break
            until(lambda: engine.num_open == 0)
            assert engine.engine.counters.finished == {"cancelled": 2}

    asyncio.run(main())


def test_a_batch_keeps_its_order_and_its_errors() -> None:
    requests = [ask(f"r{n}", (1, n)) for n in range(40)]
    requests[7] = ask("r7", ())
    with threaded() as engine:
        results = list(engine.batch(iter(requests), ahead=8))
    assert [r.request_id for r in results] == [f"r{n}" for n in range(40)]
    assert isinstance(results[7].choices[0].error, InvalidRequest)
    assert results[8].choices[0].tokens == expected(requests[8])


def test_a_batch_waits_for_room_where_a_single_request_is_refused() -> None:
    with threaded(Slow(num_blocks=200), max_open=2, max_length=600) as engine:
        assert len(list(engine.batch([ask(f"r{n}") for n in range(6)]))) == 6
        with (
            closing(engine.stream(ask("a", max_tokens=300))) as a,
            closing(engine.stream(ask("b", max_tokens=300))) as b,
        ):
            next(a)
            next(b)
            with pytest.raises(QueueFull) as refused:
                engine.generate(ask("c"))
            assert refused.value.retry_after_seconds > 0


def test_the_queue_bounds_all_that_is_open() -> None:
    with threaded(Slow(num_blocks=200), max_queued=2, max_length=600) as engine:
        with (
            closing(engine.stream(ask("a", max_tokens=300))) as a,
            closing(engine.stream(ask("b", max_tokens=300))) as b,
        ):
            next(a)
            next(b)  # none of them waits any more
            with pytest.raises(QueueFull, match="2 requests are open"):
                engine.generate(ask("c"))
        until(lambda: engine.num_open == 0)
        assert engine.generate(ask("b")).choices[0].tokens


def test_an_abandoned_batch_cancels_the_rest() -> None:
    with threaded(Slow(num_blocks=200), max_length=600) as engine:
        with closing(engine.batch([ask(f"r{n}", max_tokens=100) for n in range(9)])) as results:
            next(results)
        until(lambda: engine.num_open == 0)
        assert engine.engine.counters.finished["cancelled"] > 0


def test_errors_are_raised() -> None:
    with threaded(Slow(num_blocks=200), max_length=600) as engine:
        with pytest.raises(InvalidRequest, match="n must be"):
            engine.generate(ask(n=0))
        with closing(engine.stream(ask(max_tokens=500))) as updates:
            next(updates)
            with pytest.raises(InvalidRequest, match="is open"):
                engine.generate(ask())


def wrong(**fields: Any) -> Any:
    return replace(ask("wrong"), **fields)


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ("hello", "a Request is wanted, not str"),
        (wrong(id=3), "id must be a text, not 3"),
        (wrong(id=["unhashable"]), "id must be a text"),
        (wrong(tenant=None), "tenant must be a text, not None"),
        (wrong(params=None), "params must be Params, not None"),
        (wrong(params={"max_tokens": 3}), "params must be Params"),
        (wrong(prompt=3), "prompt must be a tuple of token ids, not 3"),
        (wrong(prompt=np.array([1, 2])), "prompt must be a tuple of token ids"),
        (wrong(answer=None), "answer must be a tuple of token ids, not None"),
        (wrong(priority=None), "priority must be a whole number, not None"),
        (wrong(adapter="a"), "adapter must be a whole number, not 'a'"),
        (wrong(pooling=np.array([1, 2])), "pooling must be 'last' or 'mean', not"),
        (wrong(params=Params(n=None)), "n must be a whole number, not None"),
        (wrong(params=Params(stop="abc")), "stop must be a tuple of texts, not 'abc'"),
        (wrong(params=Params(stop=None)), "stop must be a tuple of texts, not None"),
        (wrong(params=Params(stop_tokens=3)), "stop_tokens must be a frozenset of token ids"),
        (wrong(params=Params(ignore_eos="no")), "ignore_eos must be True or False, not 'no'"),
        (wrong(params=Params(transforms=3)), "transforms must be a tuple, not 3"),
        (wrong(params=Params(transforms=("top-k",))), "must be named by a Link or be called"),
        (wrong(params=Params(sampler=None)), "sampler must be named by a Link or be called"),
        (wrong(params=Params(sampler=Link(3))), "sampler: the name must be a text, not 3"),
        (wrong(params=Params(sampler=Link("greedy", 3))), "the options of greedy must be a map"),
        (wrong(params=Params(postprocessors="x")), "postprocessors must be a tuple, not 'x'"),
        (wrong(params=Params(postprocessors=("reasoning",))), "named by a Use or have feed and"),
        (wrong(params=Params(postprocessors=(Link("reasoning"),))), "named by a Use or have"),
        (
            wrong(params=Params(postprocessors=(object(),))),
            "named by a Use or have feed and finish",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else "wrong",
)
def test_a_request_of_wrong_types_is_refused_and_harms_no_neighbour(
    request_: Any, says: str
) -> None:
    with threaded(Slow(), tokenizer=Letters()) as engine:
        neighbour = engine.stream(ask())
        tokens = list(next(neighbour).tokens)
        with pytest.raises(InvalidRequest, match=re.escape(says)):
            engine.generate(request_)
        first, second = engine.batch([request_, ask("after")])
        assert says in str(first.choices[0].error)
        assert second.choices[0].tokens == expected(ask("after"))
        assert tokens + [t for update in neighbour for t in update.tokens] == expected(ask())


def test_what_nobody_foresaw_in_a_request_ends_that_one_only(monkeypatch: Any) -> None:
    with threaded() as engine:
        taken = engine.engine.intake.check

        def check(request: Request) -> None:
            taken(request)
            if request.id == "odd":
                raise SystemExit("of all things")

        monkeypatch.setattr(engine.engine.intake, "check", check)
        with pytest.raises(InvalidRequest, match=r"taken: it called sys.exit\(of all things\)"):
            engine.generate(ask("odd"))
        assert engine.generate(ask()).choices[0].tokens == expected(ask())


class Odd(BaseException):
    """What no `except Exception` catches."""

    def __repr__(self) -> str:
        raise ValueError("not even its text")


class Leaps:
    """A link and a postprocessor that raises in one of its calls, at the third token."""

    def __init__(self, where: str, error: type[BaseException]) -> None:
        self.where, self.error, self.num_seen = where, error, 0
        if where in ("accept", "rollback"):
            self.accept = self._accept

    def _leap(self, where: str) -> None:
        self.num_seen += where == self.where
        if where == self.where and self.num_seen > 2:
            raise self.error

    def _accept(self, token: int) -> None:
        self._leap("accept")

    def __call__(self, logits: Any, *about: Any) -> Any:
        self._leap("call")
        return logits if len(about) == 1 else np.argmax(logits, axis=-1)

    def feed(self, piece: Piece) -> list[Piece]:
        self._leap("feed")
        return [piece]

    def finish(self) -> list[Piece]:
        self.num_seen = 3
        self._leap("finish")
        return []


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, asyncio.CancelledError, Odd])
@pytest.mark.parametrize(
    ("part", "where"),
    [
        ("transforms", "call"),
        ("transforms", "accept"),
        ("sampler", "call"),
        ("sampler", "accept"),
        ("postprocessors", "feed"),
        ("postprocessors", "finish"),
    ],
)
def test_whatever_a_part_of_a_request_raises_ends_that_request_only(
    part: str, where: str, error: type[BaseException]
) -> None:
    leaps = Leaps(where, error)
    bad = ask("bad", **{part: leaps if part == "sampler" else (leaps,)})
    with threaded(Slow(), tokenizer=Letters()) as engine:
        neighbour = engine.stream(ask())
        tokens = list(next(neighbour).tokens)
        with pytest.raises((SamplingFault, ProcessorFault), match="Leaps failed"):
            engine.generate(bad)
        assert tokens + [t for update in neighbour for t in update.tokens] == expected(ask())
        assert engine.generate(ask("after")).choices[0].tokens == expected(ask())


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, Odd])
def test_whatever_a_program_or_a_tokenizer_raises_ends_what_it_was_asked_for(
    monkeypatch: Any, error: type[BaseException]
) -> None:
    def leap(*_: object) -> None:
        raise error

    with threaded(tokenizer=Letters()) as engine:
        for whose, what, fault, says in (
            (engine.engine.program, "submit", ProgramFault, "the program failed in a step"),
            (Letters, "feed", ProcessorFault, "the tokenizer failed"),
            (Letters, "stream", ProcessorFault, "could not be set up"),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(whose, what, leap)
                with pytest.raises(fault, match=says):
                    engine.generate(ask())
        assert engine.generate(ask()).choices[0].tokens == expected(ask())


def test_the_users_own_ctrl_c_is_no_fault_of_a_transform() -> None:
    engine = make()  # stepped by the main thread, where Ctrl-C arrives
    engine.add(ask(transforms=(Leaps("call", KeyboardInterrupt),)))
    with pytest.raises(KeyboardInterrupt):
        drain(engine)
    engine.close()


def test_closing_the_engine_ends_every_stream() -> None:
    toy = Slow(num_blocks=200)
    engine = threaded(toy, max_length=600)
    updates = engine.stream(ask(max_tokens=500))
    next(updates)
    engine.close()
    engine.close()
    assert list(updates)[-1].error.code == "engine_closed"
    with pytest.raises(EngineClosed):
        engine.generate(ask())
    assert toy.closed


@pytest.mark.parametrize(
    ("how", "says"),
    [(MemoryError, "MemoryError: no more"), (SystemExit, r"it called sys.exit\(no more\)")],
)
def test_an_engine_that_breaks_down_leaves_nobody_waiting(
    monkeypatch: Any, how: type[BaseException], says: str
) -> None:
    engine = threaded()

    def broken(now: float) -> None:
        raise how("no more")

    monkeypatch.setattr(engine.engine.scheduler, "schedule", broken)
    with pytest.raises(EngineClosed, match=f"broke down: {says}"):
        engine.generate(ask())
    with pytest.raises(EngineClosed, match="broke down"):
        engine.generate(ask())
    engine.close()


def test_a_closed_loop_is_no_trouble() -> None:
    with threaded(Slow(num_blocks=200), max_length=600) as engine:
        loop = asyncio.new_event_loop()
        updates = engine.astream(ask(max_tokens=300))
        loop.run_until_complete(anext(updates))
        loop.close()
        until(lambda: engine.num_open == 0)
        assert engine.generate(ask("next")).choices[0].finish == "length"


def test_streams_that_the_garbage_collector_ends_lock_nobody_out() -> None:
    """An abandoned stream in a cycle is closed wherever memory is asked for, within a face too."""

    class Holder:
        stream: object

    with threaded(Toy(256), max_length=80) as face:
        old = gc.get_threshold()
        gc.set_threshold(1)
        try:
            for number in range(300):
                holder = Holder()
                holder.stream = face.stream(ask(f"left {number}", (1, 2), max_tokens=50))
                next(holder.stream)  # type: ignore[call-overload]
                holder.itself = holder  # type: ignore[attr-defined]
                del holder
        finally:
            gc.set_threshold(*old)
        assert face.generate(ask("r", (1, 2), max_tokens=2)).choices[0].finish == "length"
        gc.collect()
        until(lambda: face.num_open == 0)


def test_a_batch_longer_than_the_queue_goes_on_for_ever() -> None:
    with threaded(max_open=2) as face:
        requests = (ask(f"r{number}", (1, 2), max_tokens=1) for number in range(1500))
        assert sum(result.choices[0].finish == "length" for result in face.batch(requests)) == 1500


@pytest.mark.parametrize("ahead", [0, -5])
def test_a_batch_of_none_at_a_time_is_refused(ahead: int) -> None:
    with (
        threaded(Toy(256), max_length=80) as face,
        pytest.raises(InvalidRequest, match="ahead must be at least 1"),
    ):
        list(face.batch([ask("r", (1, 2), max_tokens=1)], ahead=ahead))


def test_a_request_from_within_a_step_is_refused_and_not_waited_for() -> None:
    class Asking:
        def feed(self, piece: Piece) -> list[Piece]:
            face.generate(ask("inner", (1,), max_tokens=1))
            return [piece]

        def finish(self) -> list[Piece]:
            return []

    engine = make(Toy(256), max_length=80, tokenizer=Letters())
    with ThreadedEngine(engine) as face:
        made = ask("outer", (1, 2), max_tokens=3, postprocessors=(Asking(),))
        with pytest.raises(LlamaError, match="would wait for itself"):
            face.generate(made)
        assert face.generate(ask("r", (1, 2), max_tokens=2)).choices[0].finish == "length"


def test_logits_that_are_no_floats_end_their_request_alone() -> None:
    class Texts:
        def __call__(self, logits_NV: Any, context: Any) -> Any:
            return logits_NV.astype(str)

    with threaded(Toy(256), max_length=80) as face:
        bad = ask("bad", (1, 2), max_tokens=3, transforms=(Texts(),))
        with pytest.raises(SamplingFault, match="instead of logits, floats"):
            face.generate(bad)
        assert face.generate(ask("r", (1, 2), max_tokens=2)).choices[0].finish == "length"
