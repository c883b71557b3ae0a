"""The clock that may be held to a program's instructions."""

from __future__ import annotations

import time

import numpy as np
import pytest
from llama_plugin_cpu.backend import CpuBackend

from llama_core.contracts.step import Plan, Want
from llama_core.errors import LlamaError
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
PROMPT = Part(list(range(1, 21)))


@pytest.fixture(params=["llama", "mixtral"])
def program(request):
    one = CpuBackend(threads=2).compile(*tiny.model(request.param), PLAN)
    yield one
    one.close()


def test_every_node_of_the_graph_is_timed_once_and_within_the_step(program):
    program.keep_times(True)
    began = time.perf_counter_ns()
    drive.run(program, PROMPT)
    wall = time.perf_counter_ns() - began
    times = program.times()
    assert program.times() == []
    named = [name for one in times for name in one.name.split(" + ")]
    nodes = [n for n in program.graph.nodes if n.inputs[0] != "adapters"]
    assert sorted(named) == sorted(node.name for node in nodes)
    ops = {node.name: node.op for node in nodes}
    assert all(one.op == ops[name] for one in times for name in one.name.split(" + "))
    ends = [0]
    for one in times:
        assert one.ns >= 0
        assert one.began_ns >= ends[-1]
        ends.append(one.began_ns + one.ns)
    assert ends[-1] <= wall


def test_linears_over_the_same_rows_are_told_as_one(program):
    program.keep_times(True)
    drive.run(program, PROMPT)
    joined = [one.name for one in program.times() if " + " in one.name]
    q, k, v = (f"layers.0.attn.{name}_proj" for name in "qkv")
    assert f"{q} + {k} + {v}" in joined


def test_what_has_no_rows_is_not_told(program):
    program.keep_times(True)
    drive.run(program, Part([1, 2, 3], want=Want.LOGITS))
    assert "lm_head" in [one.name for one in program.times()]
    drive.step(program, drive.batch(program.kv, Part([1, 2, 3], want=Want.NOTHING)))
    assert "lm_head" not in [one.name for one in program.times()]


def test_the_clock_changes_no_bit_and_can_be_put_away(program):
    plain = drive.run(program, PROMPT)[0]
    assert program.times() == []
    program.keep_times(True)
    assert np.array_equal(drive.run(program, PROMPT)[0], plain)
    assert program.times()
    program.keep_times(False)
    assert np.array_equal(drive.run(program, PROMPT)[0], plain)
    assert program.times() == []


def test_the_library_wants_room_for_every_instruction(program):
    room = program._ffi.new("int64_t[]", 8)
    with pytest.raises(LlamaError, match="times of 4 instructions"):
        program._check(program._lib.llama_program_clock(program._handle, room, 4))


def test_a_closed_program_lets_its_clock_be_put_away_only(program):
    program.keep_times(True)
    program.close()
    program.keep_times(False)
    with pytest.raises(LlamaError, match="closed"):
        program.keep_times(True)
