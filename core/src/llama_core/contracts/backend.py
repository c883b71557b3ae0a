"""A backend compiles graphs into programs on its devices. These three calls are all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.program import Program
from llama_core.contracts.spec import Spec
from llama_core.contracts.step import Plan

if TYPE_CHECKING:
    from llama_core.model.graph import Graph, Node
    from llama_core.model.weights import Weights


@dataclass(frozen=True, slots=True)
class Device:
    """Something that computes."""

    id: str  # "cpu", "cuda:0"
    kind: str  # "cpu", "cuda", "rocm", "metal", "xpu", "webgpu"
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Devices(Sequence[Device]):
    """The devices of a backend; where there are none, `reason` says why."""

    found: tuple[Device, ...] = ()
    reason: str | None = None

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self.found[index]

    def __len__(self) -> int:
        return len(self.found)


@dataclass(frozen=True, slots=True)
class Support:
    """Whether a backend runs a node; true, or false with the reason."""

    reason: str | None = None

    def __bool__(self) -> bool:
        return self.reason is None


class Backend(Protocol):
    """Turns a graph and its weights into something the engine can step."""

    def devices(self) -> Devices:
        """What it can run on here; empty, with a reason, where it cannot run."""

    def supports(self, node: Node) -> Support:
        """Whether it computes this node natively."""

    def compile(self, graph: Graph, weights: Weights, plan: Plan) -> Program:
        """The program, or an error that lists every node it cannot run and why."""


class CodeBackend(Backend, Protocol):
    """An optional power: weights that are codes are multiplied faster by 8-bit activations.

    Where nobody says otherwise, such a backend is given graphs rewritten by `act: auto`.
    """

    prefers_codes: bool


class KeepingBackend(Backend, Protocol):
    """An optional power: it keeps files of its own, and finds out whether they are sound.

    `llama doctor` asks, so it may take the time to read them.
    """

    def faults(self) -> Sequence[str]:
        """What is wrong with its files, a sentence each, and what becomes of them."""


SPEC: Spec[Backend] = Spec("backend", Backend, "llama_create_backend")
