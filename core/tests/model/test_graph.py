"""The graph says what is wrong with it, all at once, and shows itself."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest

from llama_core.errors import LlamaError
from llama_core.model import dump, ops
from llama_core.model.graph import LISTED, FrozenMap, Graph, GraphError, Group, Node
from llama_core.model.weights import DenseWeights

from .small import Driver, model, prompt


def test_nothing_in_a_graph_can_be_changed() -> None:
    graph, _ = model("llama")
    with pytest.raises(FrozenInstanceError):
        graph.nodes = ()  # type: ignore[misc]
    with pytest.raises(TypeError):
        graph.nodes[0].attrs["eps"] = 2  # type: ignore[index]
    assert hash(graph.nodes[0]) == hash(model("llama")[0].nodes[0])
    assert graph == model("llama")[0]


def test_every_fault_is_listed_with_node_and_shape() -> None:
    graph, _ = model("llama")

    def spoil(node: Node) -> Node:
        if node.name == "layers.0.attn.core":
            return node.with_attrs(num_heads=3)
        if node.name == "layers.1.mlp.glu":
            return node.with_attrs(fn="sillu")
        if node.name == "layers.1.attn_add":
            return replace(node, inputs=("layers.0.mlp_ad", node.inputs[1]))
        return node

    wrong = replace(graph.map(spoil, "spoil"), groups=(Group("qkv", ("nowhere",)),))
    with pytest.raises(GraphError) as caught:
        wrong.validate()
    text = str(caught.value)
    assert len(caught.value.problems) == 4
    assert "layers.0.attn.core" in text
    assert "['T', 24]" in text
    assert "fn is 'sillu' and must be one of silu" in text
    assert "layers.1.attn_add: reads 'layers.0.mlp_ad', which nothing before it gives" in text
    assert "nowhere" in text


def test_of_very_many_faults_the_message_names_the_first() -> None:
    error = GraphError("the tensors", [f"tensor {n} is missing" for n in range(LISTED + 5)])
    assert len(error.problems) == LISTED + 5
    assert str(error).startswith(f"the tensors: {LISTED + 5} problems: tensor 0 is missing; ")
    assert f"tensor {LISTED - 1} is missing; and 5 more" in str(error)
    assert f"tensor {LISTED} " not in str(error)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (Node("rms_nrom", "x", ("h",)), "did you mean 'rms_norm'"),
        (ops.node("rms_norm", "x", ("h",)), "needs the weight 'weight'"),
        (ops.node("linear", "x", ("h",), {"weight": "w"}, act="q8"), "q8:<block>"),
        (ops.node("linear", "x", ("h",), {"weight": "v"}, act="static"), "input_scale"),
        (ops.node("linear", "x", ("h", "h"), {"weight": "w"}), "not 2 values"),
        (ops.node("linear", "x", ("h",), {"weight": "w", "wieght": "w"}), "no weight 'wieght'"),
        (ops.node("linear", "x", ("h",), {"weight": "gone"}), "has no shape"),
        (ops.node("rms_norm", "x", ("h",), {"weight": "w"}), "does not norm rows of 8"),
        (ops.node("slice", "x", ("h",), start=4, stop=9), "4:9 does not lie within 8"),
        (ops.node("slice", "x", ("h",), start="0", stop=9), "must be int"),
        (ops.node("slice", "x", ("h",), start=0), "needs the attribute 'stop'"),
        (ops.node("add", "x", ("h", "tokens")), "must be equal"),
        (ops.node("rope", "x", ("h", "positions"), head_dim=3, rotary_dim=2), "no whole heads"),
        (ops.node("rope", "x", ("h", "positions"), head_dim=4, rotary_dim=3), "cannot turn 3"),
        (ops.node("softcap", "x", ("h",), cap=0.0), "above 0"),
        (ops.node("softcap", "x", ("h",), cap=1.0, lid=2), "no attribute 'lid'"),
    ],
)
def test_a_fault_names_itself(node: Node, why: str) -> None:
    head = ops.node("recv", "h", source=0, width=8)
    graph = Graph("test", 5, 8, 9, (head, node), FrozenMap({"w": (3, 7), "v": (3, 8)}), FrozenMap())
    with pytest.raises(GraphError, match="x: ") as caught:
        graph.validate()
    assert why in str(caught.value)


def test_names_that_are_near() -> None:
    graph, weights = model("llama")
    with pytest.raises(GraphError, match=r"layers\.0\.attn\.q_proj"):
        graph["layers.0.attn.qproj"]
    arrays = {name: one.decode() for name, one in weights.items()}
    arrays["layers.0.attn.q_projj.weight"] = arrays.pop("layers.0.attn.q_proj.weight")
    arrays["norm.weight"] = np.ones(3, np.float32)
    problems = graph.weight_problems(DenseWeights(arrays))
    assert len(problems) == 2
    assert "did you mean 'layers.0.attn.q_projj.weight'" in problems[0]
    assert problems[1] == "norm.weight is [3] and must be [24]"
    del arrays["layers.0.attn.q_projj.weight"]
    assert "did you mean" not in graph.weight_problems(DenseWeights(arrays))[0]


def test_memory_is_grouped_by_what_it_holds() -> None:
    graph, _ = model("gemma2", num_hidden_layers=5)
    groups = [(g.layers, g.window) for g in graph.kv_groups]
    assert groups == [((0, 2, 4), 7), ((1, 3), None)]


def test_an_op_of_a_plugin_runs_prints_and_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "test_reverse"
    monkeypatch.setitem(ops.OPS, name, ops.op("embed"))  # so that it is gone afterwards
    del ops.OPS[name]
    ops.register_op(
        ops.Op(
            name,
            "columns in reverse",
            ("x",),
            lambda node, inputs, weights: inputs[0],
            lambda call: call.inputs[0][:, ::-1] * call.attrs["by"],
            attrs={"by": ops.Attr((float,), 1.0)},
        )
    )
    with pytest.raises(LlamaError, match="defined already"):
        ops.register_op(ops.OPS[name])
    graph, weights = model("llama")
    turn = ops.node(name, "turned", ("lm_head",), by=2.0)
    turned = replace(
        graph, nodes=(*graph.nodes, turn), outputs=FrozenMap({"logits": "turned"})
    ).validate()
    tokens = prompt(5)
    (plain,) = Driver(graph, weights).step([(0, tokens, 0)])
    (found,) = Driver(turned, weights).step([(0, tokens, 0)])
    assert np.array_equal(found, plain[:, ::-1] * 2)
    assert "by=2" in dump.text(turned)


def test_a_graph_is_checked_once_and_again_when_its_ops_are_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    graph, _ = model("llama")
    asked: list[str] = []
    rule = ops.op("softcap")
    monkeypatch.setitem(
        ops.OPS,
        "softcap",
        replace(rule, shape=lambda node, *rest: asked.append(node.name) or rule.shape(node, *rest)),
    )
    cap = ops.node("softcap", "capped", ("lm_head",), cap=30.0)
    capped = replace(graph, nodes=(*graph.nodes, cap))
    capped.value_shapes().clear()  # which is the caller's own
    assert capped.value_shapes()["capped"] == capped.value_shapes()["lm_head"]
    assert asked == ["capped"]
    assert capped == replace(graph, nodes=(*graph.nodes, cap))
    before = dict(ops.OPS)
    del ops.OPS["softcap"]
    with pytest.raises(GraphError, match="there is no op 'softcap'"):
        capped.validate()
    ops.OPS.clear()  # or it would come last, where others list them
    ops.OPS.update(before)


def test_dump_folds_like_layers_and_shows_what_is_unusual() -> None:
    graph, _ = model(
        "gemma3_text", num_hidden_layers=12, rope_scaling={"type": "linear", "factor": 8}
    )
    text = dump.text(graph)
    assert "layers.0 to 4, 5 alike:" in text
    assert "layers.1.attn.core" not in text
    assert "layers.5.attn.core" in text
    assert "scaling=linear(factor=8)" in text
    assert "window=7" in text
    assert "layers.1.attn.core" in dump.text(graph, folded=False)


def test_picture_is_well_formed_and_names_every_node() -> None:
    for name in ("llama", "qwen3_moe", "phi3"):
        graph, _ = model(name)
        root = ElementTree.fromstring(dump.svg(graph))
        titles = [e.text or "" for e in root.iter() if e.tag.endswith("title")]
        for part in dump.stretches(graph):
            for node in part.nodes:
                assert any(title.startswith(f"{node.name}:") for title in titles)
