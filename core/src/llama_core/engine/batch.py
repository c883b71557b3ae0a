"""Turns a schedule into the flat batch a program runs, and says which rows gave what to whom.

The only place in the engine that builds arrays for a program. It decides nothing: what is computed
is the schedule's, what is wanted is the answer's. Legend in `contracts/step.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.program import Pending
from llama_core.contracts.step import Batch, DeviceSampling, Output, Want
from llama_core.engine.answer import Answer
from llama_core.engine.faults import ProgramFault
from llama_core.engine.scheduler import Schedule
from llama_core.engine.sequence import UNKNOWN

NOTHING, LOGITS, HIDDEN, TOKEN = (int(w) for w in Want)


@dataclass(frozen=True, slots=True)
class Rows:
    """Per sequence of the schedule: of what kind its rows want something, how many of them do,
    and how many of its tokens are computed afterwards, drafts apart.

    Rows of one kind lie in the output in this order, so that a running count finds them.
    """

    wants: list[tuple[int, int, int]]  # kind, count, tokens
    num_logits: int
    num_hidden: int
    num_tokens: int

    @property
    def stay_there(self) -> bool:
        """Whether the program needs nothing of the engine to go on from these rows."""
        return not self.num_logits and not self.num_hidden


@dataclass(frozen=True, slots=True)
class Flight:
    """A step that the program has been given and whose result has not been read."""

    plan: Schedule
    rows: Rows
    pending: Pending


def assemble(plan: Schedule, answers: Mapping[int, Answer], num_groups: int) -> tuple[Batch, Rows]:
    tokens: list[int] = []
    positions: list[int] = []
    starts = [0]
    want: list[int] = []
    wants: list[tuple[int, int, int]] = []
    previous: list[tuple[int, int]] = []  # rows whose token the step before is sampling
    asked: list[Answer] = []
    counts = [0, 0, 0, 0]
    adapted = False
    for sequence in plan.sequences:
        answer = answers[sequence.id]
        asked.append(answer)
        known = sequence.tokens
        first, rows = sequence.num_computed, sequence.num_scheduled
        if rows == 1 and first + 1 == len(known) and not answer.pooled:
            kind, count, end = _choosing(answer), 1, first + 1
            tokens.append(known[first])
            positions.append(first)
            want.append(kind)
        else:
            kind, count = _wanted(answer, first, rows)
            end = first + rows - len(sequence.drafts)
            tokens += known[first : first + rows]
            tokens += sequence.drafts
            positions += range(first, first + rows)
            want += [NOTHING] * (rows - count)
            want += [kind] * count
        if tokens[-1] == UNKNOWN:
            previous.append((len(tokens) - 1, sequence.sampled_at))
        starts.append(len(tokens))
        wants.append((kind, count, end))
        counts[kind] += count
        if kind == TOKEN:
            sequence.sampled_at = len(tokens) - 1
        if answer.request.adapter >= 0:
            adapted = True
    batch = Batch(
        np.array(tokens, np.int32),
        np.array(positions, np.int32),
        np.array(starts, np.int32),
        tuple(tuple([s.tables[g] for s in plan.sequences]) for g in range(num_groups)),
        np.array(want, np.uint8),
        adapters_S=np.array([a.request.adapter for a in asked], np.int32) if adapted else None,
        previous_T=_previous(previous, len(tokens)) if previous else None,
        sampling_S=_sampling(asked, wants) if counts[TOKEN] else None,
    )
    return batch, Rows(wants, counts[LOGITS], counts[HIDDEN], counts[TOKEN])


def _sampling(
    asked: Sequence[Answer], wants: Sequence[tuple[int, int, int]]
) -> tuple[DeviceSampling | None, ...]:
    return tuple(
        [
            a.sampling() if kind == TOKEN else None
            for a, (kind, _, _) in zip(asked, wants, strict=True)
        ]
    )


def _previous(rows: list[tuple[int, int]], count: int) -> NDArray[np.int32]:
    previous_T = np.full(count, -1, np.int32)
    for row, sampled_at in rows:
        previous_T[row] = sampled_at
    return previous_T


def _wanted(answer: Answer, first: int, rows: int) -> tuple[int, int]:
    """The kind and how many of the last rows want it."""
    sequence = answer.stream
    end = first + rows
    complete = end == len(sequence.tokens) + len(sequence.drafts)
    if answer.request.pooling is not None:
        if answer.request.pooling == "mean":
            return HIDDEN, max(0, end - max(first, answer.num_pooled))
        return (HIDDEN, 1) if complete else (NOTHING, 0)
    scored = answer.prompt_logprobs
    if scored is not None and len(scored) < sequence.num_prompt:
        # Row p tells of prompt token p + 1; the rows already told of were lost to a preemption.
        return LOGITS, max(0, end - max(first, len(scored) - 1))
    if not complete:
        return NOTHING, 0
    return _choosing(answer), 1 + len(sequence.drafts)


def _choosing(answer: Answer) -> int:
    """Where the next token is chosen; n choices of one row are always chosen here."""
    return LOGITS if answer.device is None or answer.stream.slots > 1 else TOKEN


def inspect(output: Output, rows: Rows, vocab_size: int) -> None:
    """Refuse an output that is not what was asked for, before anyone reads from it."""
    for name, array, count, width in (
        ("logits_RV", output.logits_RV, rows.num_logits, vocab_size),
        ("hidden_RD", output.hidden_RD, rows.num_hidden, None),
        ("tokens_R", output.tokens_R, rows.num_tokens, None),
    ):
        if not count:
            continue
        if array is None:
            raise ProgramFault(f"the program gave no {name} for {count} rows that want it")
        if array.shape[0] != count or (width is not None and array.shape[1:] != (width,)):
            asked = (count,) if width is None else (count, width)
            raise ProgramFault(f"the program gave {name} of shape {array.shape}, not {asked}")


def singles(
    output: Output, rows: Rows, vocab_size: int
) -> tuple[list[list[int]], list[list[bool]]]:
    """By kind of row: the token that each gives on its own, and whether there is one."""
    tokens: list[list[int]] = [[], [], [], []]
    valid: list[list[bool]] = [[], [], [], []]
    if rows.num_logits and output.logits_RV is not None:
        logits_RV = output.logits_RV
        best = logits_RV.argmax(1).tolist()  # also finds NaN, and rows that forbid everything
        tokens[LOGITS] = best
        valid[LOGITS] = [isfinite(logits_RV.item(row, token)) for row, token in enumerate(best)]
    if rows.num_tokens and output.tokens_R is not None:
        tokens[TOKEN] = output.tokens_R.tolist()
        valid[TOKEN] = [0 <= token < vocab_size for token in tokens[TOKEN]]
    return tokens, valid
