"""How a graph is cut: layers that do the same share one function, and nothing is kept too long."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from llama_core.model.architectures import create
from llama_core.model.graph import Graph
from llama_core.testing import tiny

pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_torch.program import _acts
from llama_plugin_torch.segments import Cutter, Segment, live, reads


def graph(name: str, layers: int, **extra: Any) -> Graph:
    config: Mapping[str, Any] = {**tiny.VARIANTS[name], "num_hidden_layers": layers, **extra}
    return create(name).build(config)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_equal_layers_share_one_function(name: str) -> None:
    """So a deep model compiles in the time of a shallow one."""
    counts = []
    for layers in (4, 12):
        cutter, model = Cutter(compiled=False), graph(name, layers)
        cutter.cut(model.nodes, list(model.outputs.values()))
        counts.append(len(cutter._functions))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_every_value_is_there_when_read_and_gone_after(name: str) -> None:
    model = graph(name, 3)
    outputs = list(model.outputs.values())
    there = {*model.inputs, *(v for n in model.nodes if n.op == "rope" for v in reads(n)[1:])}
    for part in Cutter(compiled=False).cut(model.nodes, outputs):
        if isinstance(part, Segment):
            assert set(part.inputs) <= there
            there |= set(part.outputs)
        else:
            assert set(part.node.inputs) <= there
            there.add(part.node.name)
        there -= set(part.done_with)
    assert set(outputs) <= there
    assert not [value for value in there if value.startswith("layers.")]


def test_only_what_is_wanted_is_computed() -> None:
    """Without logits the head is left out; attention never is, since it writes the past."""
    model = graph("llama", 2)
    names = {node.name for node in live(model, ["hidden"], _acts)}
    assert "lm_head" not in names
    nothing = {node.name for node in live(model, [], _acts)}
    assert "layers.1.attn.core" in nothing
    assert "layers.1.mlp.down_proj" not in nothing
