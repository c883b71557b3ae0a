"""What was changed while a run ran: each command with the step before which it took effect.

The log is what makes a run with a hand on its dials reproducible: a run that begins again, from the
start or from a checkpoint, is given the same changes before the same steps.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llama_core.errors import plain
from llama_plugin_train.runs.faults import RunError
from llama_plugin_train.runs.journal import Journal


@dataclass(frozen=True, slots=True)
class Change:
    """One command. `step` is the first step that ran under it."""

    step: int
    command: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


class Changes:
    """The log of changes of one run; a change is durable before it is made."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._all = [_change(journal, record) for record in journal.read()]

    def record(self, change: Change) -> None:
        """Add a change. Steps never go back, except to replay, which records nothing."""
        if self._all and change.step < self._all[-1].step:
            raise RunError(
                f"a change at step {change.step} cannot follow one at step {self._all[-1].step}",
                remedy="Replay the log up to its last step first, or forget what is after.",
            )
        self._journal.append(
            {
                "step": change.step,
                "command": change.command,
                "arguments": dict(change.arguments),
                "time": time.time(),  # for people; nothing is decided by it
            }
        )
        self._all.append(change)

    def before(self, step: int) -> list[Change]:
        """What takes effect before exactly this step, in the order it was told."""
        return [change for change in self._all if change.step == step]

    def up_to(self, step: int) -> list[Change]:
        """What had taken effect before this step."""
        return [change for change in self._all if change.step < step]

    @property
    def last_step(self) -> int:
        """The step of the last change; up to there a run that begins again replays."""
        return self._all[-1].step if self._all else 0


def _change(journal: Journal, record: Mapping[str, Any]) -> Change:
    step, command, arguments = (record.get(key) for key in ("step", "command", "arguments"))
    if type(step) is not int or not isinstance(command, str) or not isinstance(arguments, dict):
        raise RunError(f"{journal.path} holds a record that is no change: {plain(record)}")
    return Change(step, command, arguments)
