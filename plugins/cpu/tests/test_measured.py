"""What measures a model measures this backend: the engine's profile of it has every node."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from llama_plugin_cpu.backend import CpuBackend

from llama_core import Plugins
from llama_core.builtin.reference import Reference
from llama_core.config import Config
from llama_core.contracts.step import Plan
from llama_core.discovery import discover
from llama_core.engine.engine import Engine
from llama_core.engine.evaluate import Text, evaluate
from llama_core.engine.profile import summarize, traced
from llama_core.engine.request import Limits, Params, Request
from llama_core.model.rewrites.act import SetAct
from llama_core.testing import tiny

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=16, max_sequences=2)
LIMITS = Limits(max_rows=16, max_sequences=2, max_length=100)


def loaded(backend, graph, weights):
    """As much of a loaded model as an evaluation looks at."""
    program = backend.compile(graph, weights, PLAN)
    engine = Engine(program, LIMITS)
    return SimpleNamespace(
        name="tiny",
        graph=graph,
        program=program,
        plan=PLAN,
        choice=SimpleNamespace(name=backend.name),
        engine=SimpleNamespace(engine=engine),
    )


def test_the_same_perplexity_as_the_reference_and_hardly_any_divergence():
    model = SetAct("q8:32")(*tiny.model())
    windows = np.random.default_rng(0).integers(0, 64, (3, 40), np.int32)
    text = Text(windows, begins=False, left_out=0)
    ours, base, strayed = evaluate(text, loaded(CpuBackend(threads=2), *model),
                                   loaded(Reference(), *model))  # fmt: skip
    assert np.allclose(ours.nll_WP, base.nll_WP, rtol=1e-4)
    assert strayed.kld.mean < 1e-8
    assert strayed.same_top.mean == 1


@pytest.mark.parametrize("in_flight", [1, 2])
def test_a_profile_of_the_engine_has_every_node_of_the_graph(in_flight):
    graph, weights = tiny.model()
    program = CpuBackend(threads=2).compile(graph, weights, replace(PLAN, in_flight=in_flight))
    plugins = Plugins(discover([]), Config())
    engine = Engine(program, LIMITS, plugins=plugins, in_flight=in_flight)
    with traced(engine) as trace:
        engine.add(Request("r", (1, 2, 3), Params(max_tokens=5)))
        while engine.has_work:
            engine.step()
    engine.close()
    nodes = [event.name for event in trace.events if event.kind == "node"]
    named = {part for name in nodes for part in name.split(" + ")}
    assert named == {node.name for node in graph.nodes if node.inputs[0] != "adapters"}
    summary = summarize(trace)
    assert summary.num_steps == 5
    assert sum(one.count for one in summary.ops) == len(nodes)
    submits = [event for event in trace.events if event.name == "submit" and event.about]
    heads = [event for event in trace.events if event.name == "lm_head"]
    assert len(heads) == len(submits) >= 5
    for head, submit in zip(heads, submits, strict=True):
        assert submit.began_ns <= head.began_ns
        assert head.began_ns + head.ns <= submit.began_ns + submit.ns
