"""The faces of an engine: sync, async and batch, for any number of threads and event loops.

`Face` turns submit, cancel and a flow of updates into streams and results; where the engine is, its
subclasses know: `ThreadedEngine` here drives one in a thread of this process, `WorkerEngine` in
`supervisor.py` one in another process. It knows nothing of scheduling or sampling.
"""

from __future__ import annotations

import os
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Self

from llama_core.contracts.postprocessor import Piece
from llama_core.engine.engine import Engine
from llama_core.engine.faults import EngineClosed, InvalidRequest, QueueFull
from llama_core.engine.request import Finish, Logprob, Request, Update, Usage, check_types
from llama_core.errors import LlamaError
from llama_core.isolation import explain, let_pass

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


@dataclass(slots=True)
class Choice:
    """All of one choice."""

    tokens: list[int] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    logprobs: list[Logprob] = field(default_factory=list)
    hidden: Any = None  #: the state that `pooling` asked for, an array of floats
    finish: Finish | None = None
    stopped_by: int | str | None = None
    error: LlamaError | None = None
    usage: Usage | None = None

    @property
    def text(self) -> str:
        return "".join(p.text for p in self.pieces if p.channel == "content")

    @property
    def logprob(self) -> float:
        return sum(p.logprob for p in self.logprobs)


@dataclass(slots=True)
class Result:
    """All of one request."""

    request_id: str
    choices: list[Choice] = field(default_factory=list)
    prompt_logprobs: Sequence[Logprob | None] | None = None

    def add(self, update: Update) -> None:
        while len(self.choices) <= update.choice:
            self.choices.append(Choice())
        choice = self.choices[update.choice]
        choice.tokens += update.tokens
        choice.pieces += update.pieces
        choice.logprobs += update.logprobs
        if update.prompt_logprobs is not None:
            self.prompt_logprobs = update.prompt_logprobs
        if update.hidden is not None:
            choice.hidden = update.hidden
        if update.finish is not None:
            choice.finish, choice.stopped_by = update.finish, update.stopped_by
            choice.error, choice.usage = update.error, update.usage


class Mailbox:
    """Where the updates of one request arrive; one thread or one task reads it.

    It never blocks the engine: a reader who is slow finds several updates at once, and there are
    never more than the answer has tokens.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.loop = loop
        self.abandoned = False  # nobody reads any more; it waits for its request to end
        self._updates: SimpleQueue[Update] = SimpleQueue()
        self._reader: asyncio.Future[None] | None = None  # waits for the next update

    def put(self, update: Update) -> None:
        """From the loop's own thread, where there is a loop."""
        self._updates.put(update)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def __iter__(self) -> Iterator[Update]:
        while True:
            update = self._updates.get()
            yield update
            if update.last:
                return

    async def __aiter__(self) -> AsyncIterator[Update]:
        assert self.loop is not None, "a thread's mailbox is read by a task"
        while True:
            if self._updates.empty():
                self._reader = self.loop.create_future()
                await self._reader
            update = self._updates.get_nowait()
            yield update
            if update.last:
                return


class Face(ABC):
    """What applications call; where the engine is, subclasses know."""

    def __init__(self, max_open: int) -> None:
        self.max_open = max_open
        self.ended: LlamaError | None = None  # why no more requests are taken
        self._home = os.getpid()
        self._boxes: dict[str, Mailbox] = {}
        self._lock = threading.Lock()

    @property
    def num_open(self) -> int:
        return len(self._boxes)

    @property
    def forked(self) -> bool:
        """Whether this is a child's copy: a fork takes none of the threads along."""
        return os.getpid() != self._home

    def stream(self, request: Request) -> Generator[Update]:
        """The updates of a request as they come. Closing the generator cancels the request."""
        box = self._open(request, None)
        try:
            yield from box
        finally:
            self._forget(request.id, box)

    async def astream(self, request: Request) -> AsyncGenerator[Update]:
        """The same for asyncio. Closing the generator, or cancelling its task, cancels it."""
        from asyncio import get_running_loop

        box = self._open(request, get_running_loop())
        try:
            async for update in box:
                yield update
        finally:
            self._forget(request.id, box)

    def generate(self, request: Request) -> Result:
        """The whole of a request; its error is raised."""
        result = Result(_id_of(request))
        with closing(self.stream(request)) as updates:
            for update in updates:
                result.add(update)
        return _checked(result)

    async def agenerate(self, request: Request) -> Result:
        result = Result(_id_of(request))
        async with aclosing(self.astream(request)) as updates:
            async for update in updates:
                result.add(update)
        return _checked(result)

    def batch(self, requests: Iterable[Request], ahead: int = 256) -> Generator[Result]:
        """The results of many requests in their order, errors within them, `ahead` at a time."""
        if ahead < 1:
            raise InvalidRequest(f"ahead must be at least 1, not {ahead}", param="ahead")
        pending: deque[tuple[Request, Mailbox | LlamaError]] = deque()
        source = iter(requests)
        exhausted = False
        held_back: list[Request] = []  # the one that the queue had no room for
        try:
            while True:
                while not exhausted and len(pending) < ahead:
                    try:
                        request = held_back.pop() if held_back else next(source)
                    except StopIteration:
                        exhausted = True
                        break
                    try:
                        pending.append((request, self._open(request, None)))
                    except QueueFull as error:
                        if not pending:
                            pending.append((request, error))
                        else:  # others are under way: their end makes room
                            held_back.append(request)
                            break
                    except LlamaError as error:
                        pending.append((request, error))
                if not pending:
                    return
                request, box = pending[0]
                result = Result(_id_of(request))
                if isinstance(box, LlamaError):
                    result.choices.append(Choice(finish="error", error=box))
                else:
                    for update in box:
                        result.add(update)
                    self._forget(request.id, box)
                pending.popleft()
                yield result
        finally:
            for request, box in pending:
                if isinstance(box, Mailbox):
                    self._forget(request.id, box)

    @abstractmethod
    def close(self) -> None:
        """End what is open and give everything back; doing so twice is allowed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def _send(self, request: Request) -> None:
        """Hand a request to the engine."""

    @abstractmethod
    def _cancel(self, request_id: str) -> None:
        """Tell the engine that nobody waits for this request any more; see `_forget`."""

    def _open(self, request: Request, loop: asyncio.AbstractEventLoop | None) -> Mailbox:
        check_types(request)
        if self.forked:
            raise EngineClosed(
                "this engine was made before a fork, and its threads are the parent's",
                remedy="Load the model in the child, or start it by spawn instead of fork.",
            )
        with self._lock:
            if self.ended is not None:
                raise self.ended
            if len(self._boxes) >= self.max_open:
                raise QueueFull(
                    f"{self.max_open} requests are open, and no more may be",
                    retry_after_seconds=1.0,
                )
            if request.id in self._boxes:
                raise InvalidRequest(f"a request with the id {request.id!r} is open", param="id")
            box = self._boxes[request.id] = Mailbox(loop)
        try:
            self._send(request)
        except BaseException:
            with self._lock:
                self._boxes.pop(request.id, None)
            raise
        return box

    def _forget(self, request_id: str, box: Mailbox) -> None:
        """The reader has gone. The id stays taken until the engine has said its last word.

        No lock is taken here, nor in `_cancel`: the garbage collector ends a stream that nobody
        holds, and does so anywhere, within a call of this face too.
        """
        if self._boxes.get(request_id) is box and not box.abandoned:
            box.abandoned = True
            self._cancel(request_id)

    def _end_all(self, reason: LlamaError) -> None:
        """Nothing more will come: every open request ends with the reason, and new ones do too."""
        with self._lock:
            self.ended = self.ended or reason
            open_ids = list(self._boxes)
        self._deliver([refused(request_id, reason) for request_id in open_ids])

    def _deliver(self, updates: Sequence[Update]) -> None:
        """Put a step's updates into their boxes, waking each event loop once."""
        loops: dict[asyncio.AbstractEventLoop, list[tuple[Mailbox, Update]]] = {}
        with self._lock:
            for update in updates:
                box = self._boxes.get(update.request_id)
                if box is None:
                    continue
                if update.last:
                    del self._boxes[update.request_id]
                if box.abandoned:
                    continue
                if box.loop is None:
                    box.put(update)
                else:
                    loops.setdefault(box.loop, []).append((box, update))
        for loop, mail in loops.items():
            try:
                loop.call_soon_threadsafe(_hand_out, mail)
            except RuntimeError:  # the loop is closed: nobody reads any more
                for box, update in mail:
                    self._forget(update.request_id, box)


class ThreadedEngine(Face):
    """An engine in a thread of this process. Several may run side by side."""

    def __init__(self, engine: Engine, *, max_open: int | None = None) -> None:
        super().__init__(engine.limits.max_queued if max_open is None else max_open)
        self.engine = engine
        self._inbox: SimpleQueue[Request | str | None] = SimpleQueue()
        self._closing = False
        self._then: Callable[[], None] = lambda: None
        self._thread = threading.Thread(target=self._drive, name="llama-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing = True
        self._inbox.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def let_go(self, then: Callable[[], None]) -> None:
        """Close without waiting, and call `then` last, in the engine's own thread.

        It takes no lock, so that the garbage collector may call it, wherever that runs.
        """
        self._then = then
        self._closing = True
        self._inbox.put(None)

    def _send(self, request: Request) -> None:
        if threading.current_thread() is self._thread:
            raise InvalidRequest(
                "a request was made from within a step of the engine that is to answer it, which "
                "would wait for itself; make it elsewhere, or of another engine"
            )
        self._inbox.put(request)

    def _cancel(self, request_id: str) -> None:
        self._inbox.put(request_id)

    def _drive(self) -> None:
        reason = EngineClosed("the engine was closed")
        try:
            while not self._closing:
                while not (self.engine.has_work and self._inbox.empty()) and not self._closing:
                    self._take(self._inbox.get())
                if self.engine.has_work:
                    self._deliver(self.engine.step())
        except BaseException as error:  # noqa: BLE001  no request may be left without an answer
            reason = EngineClosed(f"the engine broke down: {explain(error)}")
            reason.__cause__ = error
        self._end_all(reason)
        self.engine.close()
        self._then()

    def _take(self, mail: Request | str | None) -> None:
        if isinstance(mail, Request):
            error = admit(self.engine, mail)
            if error is not None:
                self._deliver([refused(mail.id, error)])
        elif mail is not None:
            box = self._boxes.get(mail)
            if box is not None and box.abandoned:  # and not another request of its name
                self.engine.cancel(mail)


def admit(engine: Engine, request: Request) -> LlamaError | None:
    """Add a request to an engine; whatever is wrong with it is its own fault, and no other's."""
    try:
        engine.add(request)
    except LlamaError as error:
        return error
    except BaseException as error:  # noqa: BLE001  its neighbours shall not suffer
        let_pass(error)
        fault = InvalidRequest(f"the request could not be taken: {explain(error)}")
        fault.__cause__ = error
        return fault
    return None


def refused(request_id: str, error: LlamaError) -> Update:
    return Update(request_id, finish="error", error=error, last=True)


def _id_of(request: object) -> str:
    """Of what may be no request at all: that is said when it is opened."""
    return str(getattr(request, "id", ""))


def _hand_out(mail: list[tuple[Mailbox, Update]]) -> None:
    for box, update in mail:
        box.put(update)


def _checked(result: Result) -> Result:
    for choice in result.choices:
        if choice.error is not None:
            raise choice.error
    return result
