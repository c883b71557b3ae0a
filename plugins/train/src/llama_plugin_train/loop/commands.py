"""What a run can be told while it runs, and the queue it is told through.

A command comes from anywhere and takes effect between two steps. What it says is checked when it is
made, so that a run never stops over a message. `Set` changes dials; all others are one word.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from llama_core.errors import ConfigError, did_you_mean, plain, sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`id` comes back with the event that tells what became of the command."""

    name: ClassVar[str]

    id: str = ""

    @property
    def arguments(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause(Command):
    """Wait, with everything in memory."""

    name: ClassVar[str] = "pause"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Command):
    """Go on after a pause."""

    name: ClassVar[str] = "resume"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Command):
    """Save a checkpoint and end."""

    name: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class EmergencyStop(Command):
    """End at once; what was done since the last checkpoint is lost."""

    name: ClassVar[str] = "emergency_stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Save(Command):
    """Save a checkpoint now."""

    name: ClassVar[str] = "save"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluate(Command):
    """Measure the held-out text now."""

    name: ClassVar[str] = "evaluate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample(Command):
    """Write samples now: from this prompt, or from those of the configuration."""

    name: ClassVar[str] = "sample"

    prompt: str | None = None

    def __post_init__(self) -> None:
        if self.prompt is not None and not isinstance(self.prompt, str):
            raise ConfigError(f"the prompt of a sample is a text, not {plain(self.prompt)}")

    @property
    def arguments(self) -> dict[str, Any]:
        return {} if self.prompt is None else {"prompt": self.prompt}


@dataclass(frozen=True, slots=True, kw_only=True)
class Set(Command):
    """Turn dials, all together: what is in `DIALS`."""

    name: ClassVar[str] = "set"

    values: Mapping[str, float | int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.values:
            raise ConfigError("nothing is set", remedy=f"There are: {', '.join(sorted(DIALS))}.")
        for dial, value in self.values.items():
            if dial not in DIALS:
                near = did_you_mean(dial, DIALS)
                raise ConfigError(
                    f"there is no '{plain(dial)}' to set",
                    remedy=sentence(near) if near else f"There are: {', '.join(sorted(DIALS))}.",
                )
            if why := DIALS[dial].refusal(value):
                raise ConfigError(
                    f"{dial} cannot be {plain(json.dumps(value, default=str))}: {why}"
                )

    @property
    def arguments(self) -> dict[str, Any]:
        return dict(self.values)


@dataclass(frozen=True, slots=True)
class Dial:
    """What one dial may be set to."""

    whole: bool
    least: float
    most: float
    meaning: str

    def refusal(self, value: object) -> str | None:
        """Why a value is out of the question, or None."""
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return "it is a whole number" if self.whole else "it is a number"
        if not self.least <= value <= self.most:  # no NaN is
            return f"it is from {self.least:g} to {self.most:g}"
        return None


DIALS: Mapping[str, Dial] = {
    "learning_rate": Dial(False, 0.0, 10.0, "the highest rate; the schedule is a factor of it"),
    "accumulation": Dial(True, 1, 1 << 16, "batches that are learnt together in one step"),
    "clip": Dial(False, 0.0, 1e6, "the longest gradient; 0 leaves all as they are"),
    "evaluate_every": Dial(True, 0, 1 << 40, "steps between evaluations; 0 for none"),
    "save_every": Dial(True, 0, 1 << 40, "steps between checkpoints; 0 for none but the last"),
    "sample_every": Dial(True, 0, 1 << 40, "steps between samples; 0 for none"),
}

KINDS: Mapping[str, type[Command]] = {
    one.name: one for one in (Pause, Resume, Stop, EmergencyStop, Save, Evaluate, Sample, Set)
}


def make(name: str, arguments: Mapping[str, Any] | None = None, id: str = "") -> Command:  # noqa: A002
    """A command by its name and what it is told; nonsense is refused with what would do."""
    given = dict(arguments or {})
    kind = KINDS.get(name)
    if kind is None:
        near = did_you_mean(name, KINDS)
        raise ConfigError(
            f"there is no command '{plain(name)}'",
            remedy=sentence(near) if near else f"There are: {', '.join(KINDS)}.",
        )
    if kind is Set:
        return Set(id=id, values=given)
    if kind is Sample and given.keys() <= {"prompt"}:
        return Sample(id=id, **given)
    if given:
        raise ConfigError(f"'{name}' takes no '{plain(next(iter(given)))}'")
    return kind(id=id)


class Commands:
    """Commands on their way to a run; any thread may put one."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, Command]] = []
        self._arrived = threading.Condition()

    def put(self, command: Command, at: int = 0) -> None:
        """Have a command take effect after `at` steps, or as soon as possible."""
        with self._arrived:
            self._waiting.append((at, command))
            self._arrived.notify_all()

    def due(self, step: int) -> list[Command]:
        """Take what is to take effect after so many steps, in the order it came."""
        if not self._waiting:  # a look costs nothing where nothing waits, as on most steps
            return []
        with self._arrived:
            due = [command for at, command in self._waiting if at <= step]
            self._waiting = [(at, command) for at, command in self._waiting if at > step]
        return due

    def wait(self, step: int, seconds: float) -> list[Command]:
        """`due`, after waiting for something to come."""
        with self._arrived:
            self._arrived.wait_for(
                lambda: any(at <= step for at, _ in self._waiting), timeout=seconds
            )
        return self.due(step)
