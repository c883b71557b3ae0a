"""Rows that give nothing leave a program after its last attention, and no bit shows it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llama_plugin_cpu import program as programs
from llama_plugin_cpu.backend import CpuBackend
from llama_plugin_cpu.wanted import gather_early

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan, Want
from llama_core.model import ops
from llama_core.model.graph import FrozenMap
from llama_core.model.rewrites.act import SetAct
from llama_core.model.rewrites.adapters import AddAdapters
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
PROMPT = drive.tokens(64, 20)


def wants(rows: int, which: str) -> np.ndarray:
    chosen = {"all": range(rows), "last": [rows - 1], "two": [3, rows - 1], "none": []}[which]
    found = np.full(rows, Want.NOTHING, np.uint8)
    found[list(chosen)] = Want.LOGITS
    return found


def logits(program, which: str) -> np.ndarray:
    """Of two sequences' prompts in one step, and of a token after each."""
    parts = [Part(PROMPT, owner=0), Part(PROMPT[::-1][:7], owner=1)]
    work = drive.batch(program.kv, *parts)
    found = [drive.step(program, replace(work, want_T=wants(27, which))).logits_RV]
    after = [Part([5], 20, 0), Part([6], 7, 1)]
    found.append(drive.step(program, drive.batch(program.kv, *after)).logits_RV)
    return np.concatenate([each for each in found if each is not None])


def compiled(graph, weights, backend=None, plan=PLAN):
    return (backend or CpuBackend(threads=2)).compile(graph, weights, plan)


@pytest.mark.parametrize("act", ["none", "q8:32"])
@pytest.mark.parametrize("kind", list(tiny.VARIANTS))
def test_what_is_gathered_early_has_the_bits_of_what_is_gathered_late(monkeypatch, kind, act):
    graph, weights = SetAct(act)(*tiny.model(kind))
    early = compiled(graph, weights)
    monkeypatch.setattr(programs, "gather_early", lambda given: given)
    late = compiled(graph, weights)
    try:
        whole = logits(late, "all")
        for which, rows in (("all", range(27)), ("two", [3, 26]), ("last", [26]), ("none", [])):
            found = logits(early, which)
            assert np.array_equal(found, logits(late, which))
            assert np.array_equal(found, whole[[*rows, 27, 28]])
    finally:
        early.close()
        late.close()


def test_adapters_follow_their_rows(monkeypatch):
    graph, weights = AddAdapters(2, 4)(*tiny.model())
    dice = np.random.default_rng(3)
    pair = [dice.standard_normal(s).astype(np.float32) for s in ((4, 32), (32, 4))]
    plan = replace(PLAN, adapter_slots=2, adapter_rank=4)
    found = []
    for gather in (gather_early, lambda given: given):
        monkeypatch.setattr(programs, "gather_early", gather)
        program = compiled(graph, weights, plan=plan)
        program.load_adapter(1, {"layers.1.attn.o_proj": tuple(pair)})
        work = drive.batch(program.kv, Part(PROMPT, owner=0), Part(PROMPT, owner=1))
        work = replace(work, adapters_S=np.array([-1, 1], np.int32))
        found.append(drive.step(program, work).logits_RV)
        program.close()
    assert np.array_equal(*found)
    assert not np.array_equal(found[0][0], found[0][1])


@pytest.mark.parametrize("kind", list(tiny.VARIANTS))
def test_the_reference_gives_the_same_for_both_graphs(kind):
    graph, weights = tiny.model(kind)
    early = gather_early(graph)
    found = [logits(compiled(one, weights, Reference()), "two") for one in (graph, early)]
    assert np.array_equal(*found)
    assert early.kv_groups == graph.kv_groups
    shapes = early.value_shapes()
    after = early.nodes[early.nodes.index(early["layers.1.attn.core"]) + 1 :]
    assert after
    assert all(shapes[node.name][0] == "R" for node in after)


def test_a_prompt_whose_rows_give_nothing_skips_the_end_of_the_last_layer():
    program = compiled(*tiny.model())
    program.keep_times(True)
    work = drive.batch(program.kv, Part(PROMPT, want=Want.NOTHING))
    drive.step(program, work)
    told = {name for one in program.times() for name in one.name.split(" + ")}
    program.close()
    assert "layers.1.attn.core" in told
    assert "layers.0.mlp.down_proj" in told
    assert told.isdisjoint({"layers.1.attn.o_proj", "layers.1.mlp.down_proj", "norm", "lm_head"})


def test_a_value_that_is_an_output_or_read_by_all_rows_stays_where_it_is():
    graph, _ = tiny.model()
    last, wanted = "layers.1.mlp_add", graph["wanted"]
    doubled = ops.node("mul", "doubled", (last,), by=2.0)
    second = ops.node("gather", "second", ("doubled", "rows"))
    at = graph.nodes.index(wanted)
    nodes = (*graph.nodes[:at], doubled, wanted, second, *graph.nodes[at + 1 :])
    both = replace(graph, nodes=nodes, outputs=graph.outputs.also(hidden="second")).validate()
    early = gather_early(both)
    assert early.outputs["hidden"] == "doubled"
    assert early.value_shapes()["doubled"][0] == "R"
    shown = replace(graph, outputs=FrozenMap({"hidden": last})).validate()
    assert gather_early(shown) is shown
    assert gather_early(early).nodes == early.nodes
