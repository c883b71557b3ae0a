"""A parallelism strategy splits one model over several ranks: rewrites, and how ranks talk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Communicator(Protocol):
    """How one rank exchanges arrays with the others.

    What it gives are the caller's own arrays. A world of one needs no peer.
    """

    rank: int
    world_size: int

    def all_reduce(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        """The sum over all ranks, added in rank order."""

    def all_gather(self, array: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
        """The ranks' arrays joined along an axis, in rank order."""

    def send(self, array: NDArray[np.float32], to: int) -> None:
        """Hand an array to one rank."""

    def recv(self, source: int) -> NDArray[np.float32]:
        """Wait for an array from one rank."""


class Strategy(Protocol):
    """What to do to the graph on each rank, and the line between the ranks."""

    def rewrites(self, rank: int, world_size: int) -> Sequence[Rewrite]:
        """The rewrites, in order, that make this rank's part of the model."""

    def communicator(self, rank: int, world_size: int) -> Communicator:
        """This rank's end of the line.

        Ends made with the same options and world size meet, whichever object or process made them.
        """


SPEC: Spec[Strategy] = Spec("parallelism", Strategy, "llama_create_parallelism")
