"""What every program repeats: how bytes become blocks, and what is refused before it is begun."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llama_core.announce import Announcements
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, DeviceSampling, Plan, Want
from llama_core.errors import ConfigError
from llama_core.model import programs
from llama_core.model.batch import BatchError

GROUPS = (KVGroup((0, 1), None, 24), KVGroup((2,), 5, 8))


def batch(wants: list[Want], **more: Any) -> Batch:
    """Two sequences, of one row and of the rest."""
    rows = len(wants)
    return Batch(
        np.arange(10, 10 + rows, dtype=np.int32),
        np.arange(rows, dtype=np.int32),
        np.array([0, 1, rows], np.int32),
        (),
        np.array(wants, np.uint8),
        **more,
    )


def test_bytes_are_divided_into_blocks_of_all_groups() -> None:
    found = programs.divided(GROUPS, Plan(kv_bytes=1000, block_size=4), 77)
    assert found == KVLayout(GROUPS, 4, 1000 // (4 * 32), 77)
    assert programs.divided((), Plan(kv_bytes=0)).num_blocks == 1
    with pytest.raises(ConfigError, match="kv_bytes is 127, and one block of every layer takes"):
        programs.divided(GROUPS, Plan(kv_bytes=127, block_size=4))
    with pytest.raises(ConfigError, match="'q4' is unknown"):
        programs.check_kv_type("q4")


def test_copies_are_refused_all_at_once() -> None:
    kv = KVLayout(GROUPS, 4, 3)
    programs.check_copies([(0, 2, 0), (1, 0, 2)], kv)
    with pytest.raises(BatchError) as refused:
        programs.check_copies([(0, 0, 1), (2, 0, 1), (0, 3, 0), (0, 0, -1)], kv)
    assert len(refused.value.problems) == 3


def test_rows_go_on_from_what_the_last_step_sampled() -> None:
    step = batch([Want.LOGITS] * 3, previous_T=np.array([-1, 2, 0], np.int32))
    assert programs.tokens_of(step, np.array([5, -1, 7], np.int32)).tolist() == [10, 7, 5]
    assert step.tokens_T.tolist() == [10, 11, 12]
    for sampled in ([5, 6, -1], [5, 6], []):
        with pytest.raises(BatchError, match="sampled no token"):
            programs.tokens_of(step, np.array(sampled, np.int32))
    assert programs.tokens_of(batch([Want.LOGITS] * 2), np.array([])).tolist() == [10, 11]


def test_a_chain_that_is_not_run_is_refused_by_sequence() -> None:
    greedy, other = (DeviceSampling(((name, 0.0),)) for name in ("greedy", "top-z"))
    step = batch([Want.TOKEN] * 3, sampling_S=(greedy, other))
    programs.check_sampling(step, frozenset({"greedy", "top-z"}))
    with pytest.raises(BatchError) as refused:
        programs.check_sampling(step, frozenset({"greedy"}))
    assert refused.value.problems == ("sequence 1: the program samples by greedy, not by top-z",)
    programs.check_sampling(batch([Want.LOGITS] * 3, sampling_S=(other, other)), frozenset())
    with pytest.raises(BatchError, match="by nothing, not by greedy"):
        programs.check_sampling(batch([Want.TOKEN, Want.LOGITS]), frozenset())


def test_a_closed_program_says_so() -> None:
    programs.check_open(False)
    with pytest.raises(programs.ProgramClosed, match="closed"):
        programs.check_open(True)


def test_whose_logits_are_no_numbers() -> None:
    said = Announcements()
    programs.note_not_finite(batch([Want.LOGITS] * 4), np.array([], np.int64), said)
    assert not said.counts
    programs.note_not_finite(batch([Want.LOGITS] * 4), np.array([2, 3]), said)
    [text] = said.counts
    assert text.startswith("logits of sequences 1 hold NaN")
