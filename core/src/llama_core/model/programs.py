"""What every program repeats, whoever compiled it: how memory is divided, and what it refuses.

A program of a plugin's own calls these instead of writing them again, so that all of them divide
the plan's bytes alike, continue sampled rows alike, and refuse in the same words. Nothing here
computes anything of a model. Legend in `contracts.step`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, Output, Plan, Want
from llama_core.errors import ConfigError, LlamaError
from llama_core.model.batch import BatchError
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.numerics import Array

KV_TYPES = ("f32", "f16", "bf16", "q8")
Pair = tuple[Array, Array]  # an adapter's a [rank, in] and b [out, rank], scale included


class ProgramClosed(LlamaError):
    """The program was closed and takes no more steps."""

    code = "program_closed"


@dataclass(frozen=True, slots=True)
class Done:
    """A step that has run already."""

    output: Output

    def result(self) -> Output:
        return self.output


def check_open(closed: bool) -> None:
    """Refuse a step after `close`."""
    if closed:
        raise ProgramClosed("the program is closed", remedy="Open or compile the model again.")


def check_kv_type(name: str) -> None:
    if name not in KV_TYPES:
        raise ConfigError(
            f"the KV type {name!r} is unknown", remedy=f"Choose one of {', '.join(KV_TYPES)}."
        )


def divided(groups: Sequence[KVGroup], plan: Plan, context_length: int | None = None) -> KVLayout:
    """The plan's bytes as blocks of all groups; one block where nothing is remembered."""
    per_block = plan.block_size * sum(group.bytes_per_token for group in groups)
    num_blocks = plan.kv_bytes // per_block if per_block else 1
    if num_blocks < 1:
        raise ConfigError(
            f"kv_bytes is {plan.kv_bytes}, and one block of every layer takes {per_block}",
            remedy="Raise kv_bytes or lower block_size.",
        )
    return KVLayout(tuple(groups), plan.block_size, num_blocks, context_length)


def check_copies(pairs: Sequence[tuple[int, int, int]], kv: KVLayout) -> None:
    """Refuse (group, from, to) blocks that are not there, before any is copied."""
    problems = [
        f"cannot copy block {source} to {target} of group {group}"
        for group, source, target in pairs
        if not 0 <= group < len(kv.groups)
        or not (0 <= source < kv.num_blocks and 0 <= target < kv.num_blocks)
    ]
    if problems:
        raise BatchError(problems)


# ---- rows and their sequences --------------------------------------------------------------------


def sequence_of(batch: Batch, row: int) -> int:
    """Which sequence a row belongs to."""
    return int(np.searchsorted(batch.starts_S1, row, side="right")) - 1


def continued(previous_T: Array, has_sampled_T: Array) -> tuple[Array, Array]:
    """Rows that go on from rows of the last step, and from which; those must all have sampled."""
    rows = np.flatnonzero(previous_T >= 0)
    last = previous_T[rows]
    if (last >= len(has_sampled_T)).any() or not has_sampled_T[last].all():
        raise BatchError(["it continues a row of the last step that sampled no token"])
    return rows, last


def tokens_of(batch: Batch, sampled_T: Array) -> Array:
    """The step's tokens, those put in that the last step sampled; -1 there says it did not."""
    if batch.previous_T is None:
        return batch.tokens_T
    rows, last = continued(batch.previous_T, sampled_T >= 0)
    tokens_T = batch.tokens_T.copy()
    tokens_T[rows] = sampled_T[last]
    return tokens_T


def check_sampling(batch: Batch, samples: frozenset[str]) -> None:
    """Refuse rows that want a token by a chain that the program does not run."""
    problems = []
    for row in np.flatnonzero(batch.want_T == Want.TOKEN).tolist():
        sequence = sequence_of(batch, row)
        sampling = None if batch.sampling_S is None else batch.sampling_S[sequence]
        beyond = [name for name, _ in (sampling.chain if sampling else ()) if name not in samples]
        if beyond or not samples:
            problems.append(
                f"sequence {sequence}: the program samples by {', '.join(samples) or 'nothing'}, "
                f"not by {', '.join(beyond) or 'greedy'}"
            )
    if problems:
        raise BatchError(list(dict.fromkeys(problems)))


def note_not_finite(batch: Batch, rows: Array, announcements: Announcements) -> None:
    """Say whose logits are no numbers; they are given all the same, to end that request."""
    if len(rows):
        whose = sorted({sequence_of(batch, row) for row in rows.tolist()})
        announcements.note(
            f"logits of sequences {', '.join(map(str, whose))} hold NaN or infinity",
            remedy="Look for NaN with llama show MODEL --check, or compute in a wider type.",
        )


# ---- adapters ------------------------------------------------------------------------------------


def adapted(
    graph: Graph, plan: Plan, slot: int, adapter: Mapping[str, Pair]
) -> list[tuple[Node, Pair | None]]:
    """Every `lora` node with what the slot is to hold for it, None for nothing; or what misfits."""
    if not 0 <= slot < plan.adapter_slots:
        raise LlamaError(f"adapter slot {slot} of {plan.adapter_slots} is not there")
    nodes = {node.name.removesuffix(".lora"): node for node in graph.of("lora")}
    problems = []
    for name, pair in adapter.items():
        if name not in nodes:
            problems.append(f"{name}: no node of this name takes adapters")
        elif why := _misfit(graph, nodes[name], *pair):
            problems.append(f"{name}: {why}")
    if problems:
        raise GraphError("the adapter does not fit", problems)
    return [(node, adapter.get(name)) for name, node in nodes.items()]


def _misfit(graph: Graph, node: Node, a: Any, b: Any) -> str | None:
    _, rank, inner = graph.shapes[node.weights["a"]]
    outer = graph.shapes[node.weights["b"]][1]
    if a.shape == (len(a), inner) and b.shape == (outer, len(a)) and len(a) <= rank:
        return None
    return (
        f"a {list(a.shape)} and b {list(b.shape)} do not fit rank {rank}, {inner} in, {outer} out"
    )
