"""What the host of a worker holds: requests accepted and not finished, and its patience.

It knows clocks and the wire's words, and neither the process nor who waits for an answer.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace

from llama_core.engine import wire
from llama_core.engine.faults import DeadlineExceeded, WorkerDied
from llama_core.engine.request import Request, Update
from llama_core.errors import LlamaError


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a worker may take, and how often it may fail."""

    start_seconds: float = 300.0  # to be ready
    # For one step: a worker speaks between steps, and what it calls cannot be asked how far it is.
    # 512 rows (`Limits.max_rows`) through 8e9 weights are 8e12 operations: 270 s at 30e9 a second.
    hang_seconds: float = 300.0
    stop_seconds: float = 5.0  # to end when asked to
    first_backoff_seconds: float = 0.1
    longest_backoff_seconds: float = 30.0
    most_failures: int = 5  # in a row, with no answer finished between them

    def lost(self, ready: bool) -> WorkerDied:
        limit = self.hang_seconds if ready else self.start_seconds
        what = "has not said a word" if ready else "was not ready"
        more = "step takes longer, raise Patience.hang_seconds or lower Limits.max_rows"
        return WorkerDied(
            f"the worker process {what} for {limit:g} s and was ended",
            remedy="Where an honest "
            + (more if ready else "start takes longer, raise Patience.start_seconds"),
        )


@dataclass(slots=True)
class Held:
    """A request that has been accepted and not finished."""

    request: Request
    since: float
    choices: set[int] = field(default_factory=set)  # heard of and not finished
    heard: bool = False
    retried: bool = False
    cancelled: bool = False  # whether or not the worker knows

    @property
    def left(self) -> float | None:
        """Seconds until its deadline; None without one that an engine would take."""
        seconds = self.request.deadline_seconds
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            return None
        if not 0 < seconds <= 86_400:
            return None
        return self.since + seconds - time.monotonic()

    def add(self) -> bytes:
        """The message that gives it to a worker, with the time that is left of its deadline."""
        left = self.left
        request = self.request
        return pack(request if left is None else replace(request, deadline_seconds=left))

    def late(self) -> DeadlineExceeded:
        seconds = self.request.deadline_seconds
        return DeadlineExceeded(f"the deadline of {seconds} s has passed")

    def too_late(self) -> Update:
        return Update(self.request.id, finish="deadline", error=self.late(), last=True)

    def lost(self, error: LlamaError) -> list[Update]:
        """The last words where the worker died of it or beside it."""
        name = self.request.id
        died = WorkerDied(f"request {name!r} was lost: {error.message}", remedy=error.remedy)
        choices = sorted(self.choices) or [0]
        return [
            Update(name, choice, finish="error", error=died, last=choice == choices[-1])
            for choice in choices
        ]


def pack(request: Request) -> bytes:
    try:
        message = wire.from_request(request)
        return wire.pack({"type": "add", "id": request.id, "request": message})
    except (TypeError, ValueError) as error:
        raise wire.WireError(f"the request cannot travel to a worker process: {error}") from error
