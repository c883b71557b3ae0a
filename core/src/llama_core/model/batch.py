"""Whether a batch can be run at all, before anything of it is: shared by all backends of core's.

It knows the batch, the memory's layout and the plan, and lists all that does not fit. A batch that
passes reads and writes only memory that is there. Legend in `contracts.step`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.errors import LlamaError

LISTED = 8  # problems named before the rest are only counted


class BatchError(LlamaError):
    """A batch does not fit the program; nothing of it was run."""

    code = "batch_invalid"

    def __init__(self, problems: list[str]) -> None:
        more = len(problems) - LISTED
        tail = f"; and {more} more" if more > 0 else ""
        super().__init__(f"the batch cannot be run: {'; '.join(problems[:LISTED])}{tail}")
        self.problems = tuple(problems)


def check(batch: Batch, vocab_size: int, hidden_size: int, kv: KVLayout, plan: Plan) -> None:
    """Nothing, or a BatchError with everything that is wrong."""
    problems = list(_layout(batch, plan, kv)) or [
        *_tokens(batch, vocab_size, hidden_size, plan),
        *_places(batch, kv),
    ]
    if problems:
        raise BatchError(problems)


def _layout(batch: Batch, plan: Plan, kv: KVLayout) -> Iterator[str]:
    """Lengths; the rest can only be looked at where these agree."""
    rows, starts = len(batch.tokens_T), batch.starts_S1
    sequences = len(starts) - 1
    if rows > plan.max_tokens:
        yield f"{rows} rows, and the plan allows {plan.max_tokens} a step"
    if sequences > plan.max_sequences:
        yield f"{sequences} sequences, and the plan allows {plan.max_sequences} a step"
    ordered = len(starts) > 0 and starts[0] == 0 and starts[-1] == rows
    if not ordered or (np.diff(starts) < 0).any():
        yield f"starts {starts.tolist()} do not divide {rows} rows"
    for name, lengths in (
        ("positions", len(batch.positions_T)),
        ("wants", len(batch.want_T)),
        ("previous rows", rows if batch.previous_T is None else len(batch.previous_T)),
        ("embeddings", rows if batch.embeddings_TD is None else len(batch.embeddings_TD)),
    ):
        if lengths != rows:
            yield f"{lengths} {name} for {rows} rows"
    if batch.adapters_S is not None and len(batch.adapters_S) != sequences:
        yield f"{len(batch.adapters_S)} adapter slots for {sequences} sequences"
    if batch.sampling_S is not None and len(batch.sampling_S) != sequences:
        yield f"{len(batch.sampling_S)} sampling chains for {sequences} sequences"
    if len(batch.blocks_G) != len(kv.groups):
        yield f"block tables for {len(batch.blocks_G)} of {len(kv.groups)} layer groups"
    for group, tables in enumerate(batch.blocks_G):
        if len(tables) != sequences:
            yield f"{len(tables)} block tables of group {group} for {sequences} sequences"


def _tokens(batch: Batch, vocab_size: int, hidden_size: int, plan: Plan) -> Iterator[str]:
    tokens = batch.tokens_T
    elsewhere = np.zeros(len(tokens), bool)
    if batch.previous_T is not None:
        elsewhere |= batch.previous_T >= 0
    if batch.embeddings_TD is not None:
        elsewhere |= tokens == -1
        if batch.embeddings_TD.shape[1:] != (hidden_size,):
            yield f"embeddings of {list(batch.embeddings_TD.shape)}, hidden size {hidden_size}"
    bad = ((tokens < 0) | (tokens >= vocab_size)) & ~elsewhere
    for row in np.flatnonzero(bad).tolist():
        yield f"row {row}: token {tokens[row]} is not within 0..{vocab_size - 1}"
    for row in np.flatnonzero(batch.want_T > max(Want)).tolist():
        yield f"row {row}: wants {batch.want_T[row]}, which is nothing known"
    for sequence, slot in enumerate([] if batch.adapters_S is None else batch.adapters_S.tolist()):
        if not -1 <= slot < plan.adapter_slots:
            yield f"sequence {sequence}: adapter slot {slot} of {plan.adapter_slots}"


def _places(batch: Batch, kv: KVLayout) -> Iterator[str]:
    """Positions that follow each other, and a block for every place that is read or written."""
    for sequence, (start, stop) in enumerate(
        zip(batch.starts_S1[:-1].tolist(), batch.starts_S1[1:].tolist(), strict=True)
    ):
        positions = batch.positions_T[start:stop]
        if not len(positions):
            continue
        first, last = int(positions[0]), int(positions[-1])
        if first < 0 or (np.diff(positions) != 1).any():
            yield f"sequence {sequence}: positions {positions.tolist()[:4]}… do not count upwards"
            continue
        for group, layout in enumerate(kv.groups):
            table = batch.blocks_G[group][sequence]
            seen = 0 if layout.window is None else max(0, first - layout.window + 1)
            needed = range(seen // kv.block_size, last // kv.block_size + 1)
            if needed.stop > len(table):
                have = len(table) * kv.block_size
                yield f"sequence {sequence}: position {last} in a table of {have} (group {group})"
                continue
            for index in needed:
                if not 0 <= table[index] < kv.num_blocks:
                    yield (
                        f"sequence {sequence}: block {table[index]} of {kv.num_blocks}"
                        f" at place {index} of its table (group {group})"
                    )
