"""A compiled model: the only thing the engine needs.

A backend compiles one from a graph; a *program provider* opens one without. Legend in `step.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llama_core.contracts.spec import Spec
from llama_core.contracts.step import Batch, Output, Plan

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class KVGroup:
    """Layers whose keys and values share one block table."""

    layers: tuple[int, ...]
    window: int | None  # how many tokens back they look; None for all
    bytes_per_token: int


@dataclass(frozen=True, slots=True)
class KVLayout:
    """How a program's memory of past tokens is divided. The engine hands out the block ids."""

    groups: tuple[KVGroup, ...]
    block_size: int  # tokens
    num_blocks: int  # in each group
    context_length: int | None = None  # positions a sequence may have; None: as blocks allow


class Pending(Protocol):
    """A step under way."""

    def result(self) -> Output:
        """Wait for the step and hand over what its rows gave."""


class Program(Protocol):
    """A model ready to run, with its memory."""

    invariance: Literal["bitwise", "none"]
    kv: KVLayout
    vocab_size: int

    def submit(self, batch: Batch) -> Pending:
        """Start a step, after those submitted before; at most `plan.in_flight` may be pending.

        Once it returns the batch's block tables may change. A batch out of range, and a step after
        `close`, is a `LlamaError`; after a refused batch the program goes on working.
        """

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        """Copy (group, from, to) blocks after the steps submitted and before the next."""

    def close(self) -> None:
        """Give back memory and threads; calling it twice is allowed."""


class SamplingProgram(Program, Protocol):
    """An optional power: rows that want a TOKEN are sampled by the program itself."""

    samples: frozenset[str]  # the standard transforms and samplers it runs, by name


class WholeProgram(Program, Protocol):
    """An optional power: attention looks both ways, so a sequence comes in one step, uncut."""

    whole: Literal[True]


class AdapterProgram(Program, Protocol):
    """An optional power: adapters are loaded into the slots that the plan reserved."""

    def load_adapter(
        self, slot: int, adapter: Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
    ) -> None:
        """By linear: a [rank, in] and b [out, rank], scale included. None at all empties it."""


class ProgramProvider(Protocol):
    """Opens models that it runs by its own means, with no graph to rewrite."""

    def accepts(self, path: Path, config: Mapping[str, Any]) -> str | None:
        """None where it can run the model, otherwise why not."""

    def open(self, path: Path, plan: Plan) -> Program:
        """Load the model and give its program."""


SPEC: Spec[ProgramProvider] = Spec("program", ProgramProvider, "llama_create_program")
