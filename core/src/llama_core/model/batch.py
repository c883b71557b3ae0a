"""Whether a batch can be run at all, before anything of it is: shared by all backends of core's.

It knows the batch, the memory's layout and the plan, and lists all that does not fit. A batch that
passes reads and writes only memory that is there. It runs at every step, so what is right is seen
by plain lists and only what is wrong is looked at closely. Legend in `contracts.step`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.errors import LlamaError

MOST_WANTED = int(max(Want))
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
    problems = [*_types(batch)] or [*_layout(batch, plan, kv)]
    if not problems:
        problems = [*_tokens(batch, vocab_size, hidden_size, plan), *_places(batch, kv)]
    if problems:
        raise BatchError(problems)


def _types(batch: Batch) -> Iterator[str]:
    """Whoever computes in 32 bits would take 2**32 + 1 of a wider type for 1."""
    for name, array, declared in (
        ("tokens", batch.tokens_T, np.int32),
        ("positions", batch.positions_T, np.int32),
        ("starts", batch.starts_S1, np.int32),
        ("wants", batch.want_T, np.uint8),
        ("adapter slots", batch.adapters_S, np.int32),
        ("previous rows", batch.previous_T, np.int32),
    ):
        if array is not None and (array.dtype != declared or array.ndim != 1):
            found = f"{array.dtype}{list(array.shape)}"
            yield f"{name} are {found}, and a batch has one row of {np.dtype(declared)}"


def _layout(batch: Batch, plan: Plan, kv: KVLayout) -> Iterator[str]:
    """Lengths; the rest can only be looked at where these agree."""
    rows, starts = len(batch.tokens_T), batch.starts_S1.tolist()
    sequences = len(starts) - 1
    if rows > plan.max_tokens:
        yield f"{rows} rows, and the plan allows {plan.max_tokens} a step"
    if sequences > plan.max_sequences:
        yield f"{sequences} sequences, and the plan allows {plan.max_sequences} a step"
    if not starts or starts[0] != 0 or starts[-1] != rows or sorted(starts) != starts:
        yield f"starts {starts} do not divide {rows} rows"
    for name, of_rows in (
        ("positions", batch.positions_T),
        ("wants", batch.want_T),
        ("previous rows", batch.previous_T),
        ("embeddings", batch.embeddings_TD),
    ):
        if of_rows is not None and len(of_rows) != rows:
            yield f"{len(of_rows)} {name} for {rows} rows"
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
    tokens = batch.tokens_T.tolist()
    vectors = batch.embeddings_TD
    if vectors is not None and vectors.shape[1:] != (hidden_size,):
        yield f"embeddings of {list(vectors.shape)}, hidden size {hidden_size}"
    if tokens and not (min(tokens) >= 0 and max(tokens) < vocab_size):
        elsewhere = np.zeros(len(tokens), bool)
        if batch.previous_T is not None:
            elsewhere |= batch.previous_T >= 0
        if vectors is not None:
            elsewhere |= batch.tokens_T == -1
        for row in np.flatnonzero(~elsewhere).tolist():
            if not 0 <= tokens[row] < vocab_size:
                yield f"row {row}: token {tokens[row]} is not within 0..{vocab_size - 1}"
    wants = batch.want_T.tolist()
    if wants and max(wants) > MOST_WANTED:
        for row in np.flatnonzero(batch.want_T > MOST_WANTED).tolist():
            yield f"row {row}: wants {wants[row]}, which is nothing known"
    for sequence, slot in enumerate([] if batch.adapters_S is None else batch.adapters_S.tolist()):
        if not -1 <= slot < plan.adapter_slots:
            yield f"sequence {sequence}: adapter slot {slot} of {plan.adapter_slots}"


def _places(batch: Batch, kv: KVLayout) -> Iterator[str]:
    """Positions that follow each other, and a block for every place that is read or written."""
    positions, starts = batch.positions_T.tolist(), batch.starts_S1.tolist()
    if _all_there(positions, starts, batch.blocks_G, kv):
        return
    for sequence, (start, stop) in enumerate(pairwise(starts)):
        if start == stop:
            continue
        first, last = positions[start], positions[stop - 1]
        if first < 0 or positions[start:stop] != list(range(first, first + stop - start)):
            shown = positions[start : min(stop, start + 4)]
            yield f"sequence {sequence}: positions {shown}… do not count upwards"
            continue
        if kv.context_length is not None and last >= kv.context_length:
            have = kv.context_length
            yield f"sequence {sequence}: position {last}, and the model's context ends at {have}"
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


def _all_there(
    positions: list[int],
    starts: list[int],
    blocks_G: tuple[tuple[Sequence[int], ...], ...],
    kv: KVLayout,
) -> bool:
    """The same question without a word on what is wrong: little more than a slice a sequence."""
    if not positions:
        return True
    if min(positions) < 0:
        return False
    if kv.context_length is not None and max(positions) >= kv.context_length:
        return False
    firsts = lasts = positions
    if starts != list(range(len(positions) + 1)):  # some have more than one row, or none
        spans = list(pairwise(starts))
        firsts = [positions[a] if a < b else 0 for a, b in spans]
        lasts = [positions[b - 1] if a < b else -1 for a, b in spans]
        counted: list[int] = []
        for first, (a, b) in zip(firsts, spans, strict=True):
            counted.extend(range(first, first + b - a))
        if positions != counted:
            return False
    size = kv.block_size
    ends = [last // size + 1 for last in lasts]
    for layout, tables in zip(kv.groups, blocks_G, strict=True):
        window, begins = layout.window, [0] * len(firsts)
        if window is not None:
            begins = [max(0, first - window + 1) // size for first in firsts]
        read: list[int] = []
        for table, begin, end in zip(tables, begins, ends, strict=True):
            read.extend(table[begin:end])
        if len(read) != sum(ends) - sum(begins):  # a table is too short
            return False
        if min(read) < 0 or max(read) >= kv.num_blocks:
            return False
    return True
