"""What engine and program say to each other at every step. Shared by backend, program and drafter.

Legend: T rows of the step, S sequences in it, G layer groups, R rows that give something,
V vocabulary, D hidden size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llama_core.contracts.parallelism import Communicator


class Want(IntEnum):
    """What one row of a batch is to give."""

    NOTHING = 0
    LOGITS = 1
    HIDDEN = 2
    TOKEN = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """The decisions taken once, before a graph is compiled; whoever shows a program shows these."""

    devices: tuple[str, ...] = ("cpu",)  # this rank's; or one a rank, in rank order
    rank: int = 0
    world_size: int = 1
    communicator: Communicator | None = None  # this rank's end of the line to the others
    kv_bytes: int = 256 << 20
    # f32 f16 bf16 q8 (one scale per token and head); less is kept only where nothing is lost
    kv_dtype: str = "f32"
    block_size: int = 16
    max_tokens: int = 512  # most rows a step
    max_sequences: int = 64  # most sequences a step
    adapter_slots: int = 0
    adapter_rank: int = 0
    in_flight: int = 1  # steps submitted before a result is read; the engine submits 1 or 2
    act: str = "none"  # of its linears, as the attribute `act`; of several the commonest first
    rewrites: tuple[str, ...] = ()  # what was done to the graph, in order


@dataclass(frozen=True, slots=True)
class DeviceSampling:
    """A sampling chain that a program may run itself: standard links by name, a sampler last.

    Each link has exactly one number, 0 where it takes none.
    The uniform of a row is `transform.uniform(seed, index)`; where a sequence wants several tokens
    in one step (drafts under verification), its rows count on from `index`.
    """

    chain: tuple[tuple[str, float], ...] = ()  # ("temperature", 0.8), ..., ("sample", 0.0)
    seed: int = 0
    index: int = 0  # of the first output token asked for: the counter of the random stream


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One step's work, flat and ragged. Rows of sequence s are `starts[s]:starts[s + 1]`."""

    tokens_T: NDArray[np.int32]
    positions_T: NDArray[np.int32]
    starts_S1: NDArray[np.int32]
    blocks_G: tuple[tuple[Sequence[int], ...], ...]  # per layer group, per sequence: block ids,
    # -1 where the group's window has passed a block; entries past the rows' end may be there
    want_T: NDArray[np.uint8]  # of Want
    adapters_S: NDArray[np.int32] | None = None  # slot per sequence, -1 for none
    embeddings_TD: NDArray[np.float32] | None = None  # instead of tokens, for rows whose id is -1
    # token := what row i of the last step sampled; where that is -1 the batch is refused, or this
    # sequence alone is given anything
    previous_T: NDArray[np.int32] | None = None
    sampling_S: tuple[DeviceSampling | None, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Output:
    """What the rows gave, each array in the order of the rows that asked for it."""

    logits_RV: NDArray[np.float32] | None = None
    hidden_RD: NDArray[np.float32] | None = None
    tokens_R: NDArray[np.int32] | None = None  # -1 where the row's logits held a NaN
