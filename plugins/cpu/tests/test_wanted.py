"""Rows that give nothing leave a program after its last attention, and no bit shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cpu_graphs import off
from llama_plugin_cpu.backend import CpuBackend

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan, Want
from llama_core.model import ops
from llama_core.model.rewrites.act import SetAct
from llama_core.model.rewrites.adapters import AddAdapters
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
PROMPT = drive.tokens(64, 20)
WANTED = {"all": list(range(27)), "two": [3, 26], "last": [26], "none": []}


def beside(kind: str):
    """A feed-forward block that reads what attention reads, so that it ends the layer from there,
    and a gather that reads a value twice as large besides."""
    graph, weights = tiny.model(kind)
    norm, mlp = "layers.1.attn_norm", "layers.1.mlp_norm"
    nodes = []
    for node in graph.nodes:
        if node.name.startswith("layers.1.mlp") and node.name != mlp:
            node = replace(node, inputs=tuple(norm if v == mlp else v for v in node.inputs))
        if node.name == "norm":
            nodes.append(ops.node("mul", "doubled", ("layers.1.mlp_add",), by=2.0))
            nodes.append(ops.node("gather", "second", ("doubled", "rows")))
            node = replace(node, inputs=("second",))
        nodes += [] if node.name == mlp else [node]
    return replace(graph, nodes=tuple(nodes)).validate(), weights


MODELS = {
    **{kind: lambda kind=kind: tiny.model(kind) for kind in tiny.VARIANTS},
    "llama beside": lambda: beside("llama"),
    "mixtral beside": lambda: beside("mixtral"),
}


def logits(program, which: str) -> np.ndarray:
    """Of two sequences' prompts in one step, and of a token after each."""
    work = drive.batch(program.kv, Part(PROMPT, owner=0), Part(PROMPT[::-1][:7], owner=1))
    wants = np.full(27, Want.NOTHING, np.uint8)
    wants[WANTED[which]] = Want.LOGITS
    found = [drive.step(program, replace(work, want_T=wants)).logits_RV]
    after = [Part([5], 20, 0), Part([6], 7, 1)]
    found.append(drive.step(program, drive.batch(program.kv, *after)).logits_RV)
    return np.concatenate([each for each in found if each is not None])


@pytest.mark.parametrize("act", ["none", "q8:32"])
@pytest.mark.parametrize("kind", list(MODELS))
def test_a_row_has_the_same_bits_whoever_else_is_wanted(kind, act):
    model = SetAct(act)(*MODELS[kind]())
    program = CpuBackend(threads=2).compile(*model, PLAN)
    plain = Reference().compile(*model, PLAN)
    try:
        whole = logits(program, "all")
        assert off(whole, logits(plain, "all")) < 1e-5
        for which, rows in WANTED.items():
            assert np.array_equal(logits(program, which), whole[[*rows, 27, 28]])
    finally:
        program.close()
        plain.close()


def test_adapters_follow_their_rows():
    graph, weights = AddAdapters(2, 4)(*tiny.model())
    dice = np.random.default_rng(3)
    pair = tuple(dice.standard_normal(s).astype(np.float32) for s in ((4, 32), (32, 4)))
    program = CpuBackend(threads=2).compile(
        graph, weights, replace(PLAN, adapter_slots=2, adapter_rank=4)
    )
    program.load_adapter(1, {"layers.1.attn.o_proj": pair})
    found = {}
    for slots in ([-1, 1], [1, -1]):
        for want in (Want.LOGITS, Want.NOTHING):  # of all but the last rows
            work = drive.batch(program.kv, Part(PROMPT, owner=0), Part(PROMPT, owner=1))
            wants = np.full(40, want, np.uint8)
            wants[[19, 39]] = Want.LOGITS
            work = replace(work, want_T=wants, adapters_S=np.array(slots, np.int32))
            rows = drive.step(program, work).logits_RV
            found[slots[0], want] = rows if len(rows) == 2 else rows[[19, 39]]
    program.close()
    for slot in (-1, 1):
        assert np.array_equal(found[slot, Want.LOGITS], found[slot, Want.NOTHING])
    assert np.array_equal(found[-1, Want.NOTHING], found[1, Want.NOTHING][::-1])
    assert not np.array_equal(*found[1, Want.NOTHING])


@pytest.mark.parametrize("kind", ["llama", "llama beside"])
def test_a_prompt_whose_rows_give_nothing_skips_the_end_of_the_last_layer(kind):
    program = CpuBackend(threads=2).compile(*MODELS[kind](), PLAN)
    program.keep_times(True)
    drive.step(program, drive.batch(program.kv, Part(PROMPT, want=Want.NOTHING)))
    told = {name for one in program.times() for name in one.name.split(" + ")}
    program.close()
    assert {"layers.0.mlp.down_proj", "layers.1.attn.k_proj", "layers.1.attn.core"} <= told
    late = {"layers.1.attn.o_proj", "layers.1.mlp.gate_proj", "layers.1.mlp.down_proj", "norm"}
    assert told.isdisjoint(late | {"lm_head"})
