"""A long step: its rows go through the program in parts, which only the memory tells."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llama_plugin_cpu.backend import CpuBackend

from llama_core.contracts.step import Batch, DeviceSampling, Output, Plan, Want
from llama_core.testing import tiny

ROWS = 300  # three parts, and the sequences end within them
LENGTHS = (0, 100, 57, 120, 23)
CHAIN = DeviceSampling((("temperature", 1.5), ("sample", 0.0)), seed=5, index=7)


def plan(rows: int) -> Plan:
    return Plan(kv_bytes=1 << 22, block_size=16, max_tokens=rows, max_sequences=8)


def work() -> Batch:
    """Sequences beside one another, their rows wanting now this and now that."""
    dice = np.random.default_rng(3)
    wants = (Want.TOKEN, Want.LOGITS, Want.NOTHING, Want.HIDDEN, Want.TOKEN)
    tables = tuple(tuple(range(16 * s, 16 * s + 16)) for s in range(len(LENGTHS)))
    return Batch(
        tokens_T=dice.integers(0, tiny.CONFIG["vocab_size"], ROWS, dtype=np.int32),
        positions_T=np.concatenate([np.arange(n, dtype=np.int32) for n in LENGTHS]),
        starts_S1=np.cumsum([0, *LENGTHS], dtype=np.int32),
        blocks_G=(tables,),
        want_T=np.resize(np.array(wants, np.uint8), ROWS),
        sampling_S=(CHAIN,) * len(LENGTHS),
    )


def alone(whole: Batch, sequence: int) -> Batch:
    first, last = whole.starts_S1[sequence : sequence + 2]
    return replace(
        whole,
        tokens_T=whole.tokens_T[first:last],
        positions_T=whole.positions_T[first:last],
        starts_S1=np.array([0, last - first], np.int32),
        blocks_G=tuple((group[sequence],) for group in whole.blocks_G),
        want_T=whole.want_T[first:last],
        sampling_S=(CHAIN,),
    )


@pytest.mark.parametrize("kind", ["llama", "mixtral"])
def test_a_step_in_parts_gives_what_its_sequences_give_alone(kind: str) -> None:
    program = CpuBackend(threads=2).compile(*tiny.model(kind), plan(ROWS))
    groups = len(program.kv.groups)
    whole = replace(work(), blocks_G=work().blocks_G * groups)
    together: Output = program.submit(whole).result()
    each = [program.submit(alone(whole, s)).result() for s in range(1, len(LENGTHS))]
    program.close()
    for name in ("logits_RV", "hidden_RD", "tokens_R"):
        parts = np.concatenate([getattr(one, name) for one in each])
        assert len(parts) > ROWS // 6, name
        assert np.array_equal(getattr(together, name), parts), name


def test_buffers_are_for_a_part_and_not_for_the_longest_step() -> None:
    sizes = {}
    for rows in (64, 128, 4096):
        program = CpuBackend(threads=2).compile(*tiny.model(), plan(rows))
        sizes[rows] = program.num_bytes()["buffers"]
        program.close()
    assert sizes[64] < sizes[128] == sizes[4096]


def test_times_of_a_step_in_parts_are_those_of_all_its_rows() -> None:
    program = CpuBackend(threads=2).compile(*tiny.model(), plan(ROWS))
    program.keep_times(True)
    program.submit(replace(work(), want_T=np.r_[np.ones(1), np.zeros(ROWS - 1)].astype(np.uint8)))
    named = [one.name for one in program.times()]
    assert "lm_head" in named, "only a row of the first part asks for it"
    program.submit(replace(work(), want_T=np.r_[np.zeros(ROWS - 1), np.ones(1)].astype(np.uint8)))
    assert sorted(one.name for one in program.times()) == sorted(named), "of the last part"
    program.close()
