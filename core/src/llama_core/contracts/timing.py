"""Where the time of a step went, node by node: what a program may tell whoever profiles it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llama_core.contracts.program import Program


@dataclass(frozen=True, slots=True)
class Timing:
    """One node of a step, or several that ran as one."""

    name: str  # of the node; joined by " + " where several ran as one
    op: str
    began_ns: int  # since the step began
    ns: int


class TimingProgram(Program, Protocol):
    """An optional power: the program holds a clock to the nodes of its steps."""

    def keep_times(self, on: bool) -> None:
        """Start or stop; a step costs nothing more while it is off, which it is at first."""

    def times(self) -> Sequence[Timing]:
        """Of the last step that ended, in the order they ran, once; none while off.

        A step that goes on after `submit` has returned ends where its result is had.
        """
