"""What a run tells while it runs: typed, frozen, and JSON as soon as somebody asks for it.

An event is made where something happened and handed to one callable; who else hears of it is not
known here. Numbers that are not finite are null in JSON.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened. `step` is how many optimizer steps were done by then."""

    kind: ClassVar[str]

    step: int

    def to_json(self) -> dict[str, Any]:
        """The event as an object for JSON, its kind under `event`."""
        return {"event": self.kind, **_finite(asdict(self))}


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparing(Event):
    """Text is made into shards before the run begins; told now and then while it takes long."""

    kind: ClassVar[str] = "preparing"

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """A run begins, or goes on from the checkpoint of `step`."""

    kind: ClassVar[str] = "started"

    run: str
    steps: int  # it is to do in all
    resumed: bool
    parameters: int
    tokens_per_step: int
    device: str
    dtype: str
    ranks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Where the seconds of one step went, on average since the last report.

    An accelerator works while Python goes on; there `forward`, `backward` and `optimizer` are the
    time to hand the work over, and waiting for it is part of `other`.
    """

    data: float
    forward: float
    backward: float
    optimizer: float
    other: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """An optimizer step that is reported. Averages are since the last report."""

    kind: ClassVar[str] = "step"

    loss: float  # mean nats a learnt token, since the last report
    last_loss: float  # of this step alone
    rate: float
    gradient_norm: float  # of this step, before clipping
    tokens: int  # read since the beginning of the run
    tokens_per_second: float
    utilization: float | None  # model operations over the device's peak, where that is known
    seconds: float  # one step
    times: Times
    memory_bytes: int  # the most this process has held of the device's memory, or the host's
    epochs: Mapping[str, float] = field(default_factory=dict)
    scale: float | None = None  # of the loss, in fp16


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Event):
    """Held-out text was measured."""

    kind: ClassVar[str] = "evaluation"

    loss: float
    perplexity: float
    tokens: int
    seconds: float
    best: bool  # lower than every one before


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Event):
    """The model went on from a prompt."""

    kind: ClassVar[str] = "sample"

    prompt: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint(Event):
    """A checkpoint is complete on its storage."""

    kind: ClassVar[str] = "checkpoint"

    location: str
    seconds: float
    reason: str  # schedule, command, end


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed(Event):
    """A command took effect before the next step, or was refused: then `error` says why."""

    kind: ClassVar[str] = "change"

    id: str  # the command's
    command: str
    arguments: Mapping[str, Any]
    replayed: bool = False  # from the log of a run that was resumed
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned(Event):
    """Something a person should look at: `spike`, `nan`, `overflow`, `rollback`, `checkpoint`."""

    kind: ClassVar[str] = "warning"

    what: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Paused(Event):
    """The run waits, with everything in memory, until it is told to resume or stop."""

    kind: ClassVar[str] = "paused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(Event):
    """The run is over: `finished`, `stopped`, `emergency`, `early` or `failed`."""

    kind: ClassVar[str] = "ended"

    reason: str
    seconds: float
    loss: float | None  # of the last step that was reported
    model: str | None  # the folder that was written
    error: str | None = None


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    return value
