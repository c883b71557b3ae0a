"""Rewrites: neutral ones change no logit, the others equal the reference on rewritten weights."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from llama_core import contracts
from llama_core.builtin.in_process import lines
from llama_core.builtin.reference import Reference
from llama_core.errors import ConfigError, LlamaError, MissingCapability, OptionsError
from llama_core.model import numerics, ops
from llama_core.model.architectures import ARCHITECTURES
from llama_core.model.architectures.blocks import Builder, attention, gather_and_norm
from llama_core.model.architectures.config import TextConfig
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph, GraphError
from llama_core.model.rewrites import REWRITES, apply, create
from llama_core.model.rewrites.act import SetAct, activations, measured_scales
from llama_core.model.rewrites.adapters import AddAdapters
from llama_core.model.rewrites.fuse import Fuse
from llama_core.model.rewrites.pipeline import PipelineStage
from llama_core.model.rewrites.reencode import Reencode
from llama_core.model.rewrites.tensor import TensorSplit
from llama_core.model.weights import About, DenseWeights, Weights

from .small import SIZES, Driver, logits, model, prompt

ROUNDING = 1e-9  # of logits that spread by three, in float64
TOKENS = prompt(13)


def exact(graph: Graph, weights: Weights) -> Any:
    """Logits in float64: the prompt in two chunks, then one step."""
    driver = Driver(graph, weights, "f64")
    return np.concatenate(
        [driver.step([(0, TOKENS[a:b], a)])[0] for a, b in ((0, 7), (7, 12), (12, 13))]
    )


def on_ranks(world_size: int, make: Callable[[int], tuple[Graph, Weights]]) -> list[Any]:
    """The logits of each rank, every rank a thread; None for one that gives none."""
    ends = lines(world_size)

    def rank(number: int) -> Any:
        graph, weights = make(number)
        driver = Driver(
            graph, weights, "f64", communicator=ends[number], rank=number, world_size=world_size
        )
        rows = []
        for a, b in ((0, 7), (7, 12), (12, 13)):
            out = driver.program.submit(driver.batch([(0, TOKENS[a:b], a)])).result()
            rows.append(out.logits_RV)
        return None if rows[0] is None else np.concatenate(rows)

    with ThreadPoolExecutor(world_size) as pool:
        return list(pool.map(rank, range(world_size)))


def arrays(weights: Weights) -> dict[str, Any]:
    return {name: np.array(one.decode()) for name, one in weights.items()}


@pytest.mark.parametrize("name", REWRITES)
def test_each_fulfils_the_contract(name: str) -> None:
    options: dict[str, Any] = {
        "act": {"act": "q8:32"},
        "adapters": {"slots": 1, "rank": 2},
        "fuse": {},
        "pipeline": {"rank": 0, "world_size": 2},
        "reencode": {"encoding": "f16"},
        "tensor": {"rank": 0, "world_size": 2},
    }[name]
    one = create(name, options)
    assert contracts.spec("rewrite").unfulfilled(one) is None
    graph, weights = model("llama")
    before, same = repr(graph), arrays(weights)
    new, _ = apply([one], graph, weights)
    assert repr(graph) == before
    assert new.rewrites
    assert all(np.array_equal(x, same[key]) for key, x in arrays(weights).items())


@pytest.mark.parametrize("name", REWRITES)
def test_a_rewrite_looks_at_no_tensor(name: str) -> None:
    """A model is rewritten, and its weights checked against the graph, before any is read."""
    graph, weights = model("llama", hidden_size=32, intermediate_size=64, head_dim=8)

    class Unread(DenseWeights):
        def find(self, name: str) -> Any:
            raise AssertionError(f"{name} was looked at")

        def __contains__(self, name: object) -> bool:
            return name in weights

        def about(self, name: str) -> About:
            return weights.about(name)

    options: dict[str, Any] = {
        "act": {"act": "static", "scales": {node.name: 0.1 for node in graph.of("linear")}},
        "adapters": {"slots": 1, "rank": 2},
        "fuse": {},
        "pipeline": {"rank": 0, "world_size": 2},
        "reencode": {"encoding": "q4:g32"},
        "tensor": {"rank": 0, "world_size": 2},
    }[name]
    new, view = apply([create(name, options)], graph, Unread({}))
    assert new.weight_problems(view) == []


def test_an_unknown_rewrite_names_those_that_are_known() -> None:
    with pytest.raises(MissingCapability, match="'fuse'"):
        create("fuze", {})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_fuse_is_neutral_and_keeps_every_name(architecture: str) -> None:
    graph, weights = model(architecture)
    fused, same = apply([Fuse()], graph, weights)
    assert fused.nodes == graph.nodes
    kinds = {group.kind for group in fused.groups}
    if architecture != "phi3":
        assert "qkv" in kinds
        assert ("layers.0.attn.q_proj", "layers.0.attn.k_proj", "layers.0.attn.v_proj") in [
            group.nodes for group in fused.groups
        ]
    assert np.array_equal(logits(fused, same, TOKENS), logits(graph, weights, TOKENS))


@pytest.mark.parametrize("architecture", ["llama", "qwen3_moe", "gemma2"])
def test_reencoding_equals_the_reference_on_rounded_weights(architecture: str) -> None:
    graph, weights = model(architecture)
    new, encoded = apply([Reencode("f16", only="layers.0.*")], graph, weights)
    rounded = {
        name: x.astype(np.float16).astype(np.float32)
        if name.startswith("layers.0.") and x.ndim == 2 and "router" not in name
        else x
        for name, x in arrays(weights).items()
    }
    found = exact(new, encoded)
    assert np.abs(found - exact(graph, DenseWeights(rounded))).max() < ROUNDING
    assert np.abs(found - exact(graph, weights)).max() > 1e-6
    with pytest.raises(GraphError, match="attn_proj"):
        apply([Reencode("f16", only="*.attn_proj")], graph, weights)


def test_q8_activations_are_what_the_reference_computes() -> None:
    """By hand: the same graph with its matrices fed rounded rows differs as the definition says."""
    graph, weights = model("llama")
    new, same = apply([SetAct("q8:8")], graph, weights)
    assert new["lm_head"].attrs["act"] == "none"
    assert new["layers.1.mlp.down_proj"].attrs["act"] == "q8:8"
    found, plain = logits(new, same, TOKENS), logits(graph, weights, TOKENS)
    assert 1e-3 < np.abs(found - plain).max() < 2.0
    for chunk in (1, 5):
        assert np.array_equal(logits(new, same, TOKENS, chunk), found)
    x = np.random.default_rng(3).standard_normal((2, 24)).astype(np.float32)
    w = weights["layers.0.attn.q_proj.weight"].decode()
    codes, scales = numerics.quantize_rows(x, 8)
    back = (codes.reshape(2, 3, 8) * scales[:, :, None]).reshape(2, 24).astype(np.float32)
    assert np.array_equal(numerics.linear(x, w, None, "q8:8"), numerics.matvec(back, w))
    wrong = "'int8' and must be auto, none, static, q8:<block> or q7:<block>"
    with pytest.raises(OptionsError, match=wrong):
        SetAct("int8")


def test_activations_fit_the_codes_of_their_weights() -> None:
    graph, weights = model("llama")
    coded = [
        Reencode("q4:g8", only="*.q_proj"),
        Reencode("q8:row", only="lm_head", skip=()),
        Reencode("q4:g4/128", only="*.up_proj"),
        Reencode("nf4:g8", only="*.k_proj"),
        SetAct("q8:16", only="*.0.*.up_proj"),
        SetAct("auto"),
    ]
    new, _ = apply(coded, graph, weights)
    names = ("1.attn.q_proj", "1.mlp.up_proj", "0.mlp.up_proj", "1.attn.k_proj", "1.attn.v_proj")
    acts = [new[f"layers.{name}"].attrs["act"] for name in names]
    assert acts == ["q8:32", "q8:128", "q8:16", "none", "none"]
    assert new["lm_head"].attrs["act"] == "q8:128"
    assert activations(new).split()[0] == "none"


def test_static_activations_need_their_scale() -> None:
    graph, weights = model("llama")
    with pytest.raises(GraphError, match="14 problems: .*q_proj: no scale is given for it"):
        apply([SetAct("static")], graph, weights)
    given = dict.fromkeys(measured_scales(graph, weights, [TOKENS]), 0.1)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(GraphError, match=r"layers.1.attn.o_proj: its scale is"):
            SetAct("static", scales={**given, "layers.1.attn.o_proj": wrong})(graph, weights)
    with pytest.raises(ConfigError, match="go with act 'static'"):
        SetAct("q8:8", scales=given)
    with pytest.raises(GraphError, match="moe has no fixed scale"):
        apply([SetAct("static", only="*.experts")], *model("mixtral"))
    with pytest.raises(ConfigError, match="there are none"):
        measured_scales(graph, weights, [[]])


@pytest.mark.parametrize("architecture", ["llama", "phi3", "mixtral"])
def test_static_activations_are_those_of_the_definition(architecture: str) -> None:
    """Every chosen linear reads codes of its own scale, and nothing else changes."""
    graph, weights = model(architecture)
    scales = measured_scales(graph, weights, [TOKENS[:5], TOKENS])
    assert scales.keys() == {node.name for node in graph.of("linear")}
    skip = ("lm_head", "*.router", "*.experts")
    new, both = apply([SetAct("static", skip=skip, scales=scales)], graph, weights)
    seen: dict[str, Any] = {}

    class Watch(Reference):
        def op_linear(self, call: Any) -> Any:
            seen[call.node.name] = call
            return ops.op("linear").reference(call)

    found = Driver(new, both, backend=Watch()).step([(0, TOKENS, 0)])[0]
    plain = logits(graph, weights, TOKENS)
    assert 1e-4 < np.abs(found - plain).max() < 2.0
    for name, call in seen.items():
        x, w = call.inputs[0], call.weights["weight"]
        if name in ("lm_head",) or name.endswith(".router"):
            assert "input_scale" not in call.weights
            continue
        step = np.float32(scales[name])
        codes = np.clip(np.rint(x / step), -127, 127)
        assert np.abs(codes).max() > 100, name  # the scale fits what is read
        product = (codes.astype(np.float64) @ w.astype(np.float64).T) * np.float64(step)
        bias = call.weights.get("bias", 0)
        assert np.allclose(ops.op("linear").reference(call), product + bias, atol=1e-4)
    back, same = apply([SetAct("none", skip=())], new, both)
    assert np.array_equal(logits(back, same, TOKENS), plain)
    for world in (1, 2):
        split = on_ranks(
            world,
            lambda rank, world=world: apply([TensorSplit(rank, world)], new, both),  # type: ignore[misc]
        )
        assert np.abs(split[0] - exact(new, both)).max() < 1e-6


def low_rank(graph: Graph, rank: int, seed: int) -> dict[str, tuple[Any, Any]]:
    """An adapter for every linear that takes one."""
    dice = np.random.default_rng(seed)
    found = {}
    for node in graph.of("lora"):
        name = node.name.removesuffix(".lora")
        outer, inner = graph.shapes[graph[name].weights["weight"]]
        a, b = dice.standard_normal((rank, inner)), dice.standard_normal((outer, rank))
        found[name] = (a.astype(np.float32) / 5, b.astype(np.float32) / 5)
    return found


@pytest.mark.parametrize("architecture", ["llama", "phi3", "qwen3_moe"])
def test_an_adapter_chosen_per_row_equals_merged_weights(architecture: str) -> None:
    graph, weights = model(architecture)
    targets = ("*_proj", "lm_head")
    new, both = apply([AddAdapters(slots=3, rank=4, targets=targets), Fuse()], graph, weights)
    driver = Driver(new, both, "f64", adapter_slots=3, adapter_rank=4)
    adapters = {0: low_rank(new, 4, 10), 2: low_rank(new, 3, 11)}
    for slot, adapter in adapters.items():
        driver.program.load_adapter(slot, adapter)
    parts = [(n, TOKENS, 0) for n in range(4)]
    found = driver.step(parts, adapters_S=np.array([2, -1, 0, 1], np.int32))
    for rows, slot in zip(found, (2, None, 0, None), strict=True):
        merged = arrays(weights)
        for name, (a, b) in adapters.get(slot, {}).items():  # type: ignore[call-overload]
            merged[f"{name}.weight"] = merged[f"{name}.weight"].astype(np.float64) + (
                b.astype(np.float64) @ a
            )
        expected = Driver(graph, F64(merged), "f64").step([(0, TOKENS, 0)])[0]
        assert np.abs(rows - expected).max() < ROUNDING
        assert slot is None or np.abs(rows - found[1]).max() > 0.1
    driver.program.load_adapter(2, {})
    again = driver.step(parts, adapters_S=np.array([2, -1, 0, 1], np.int32))
    assert np.array_equal(again[0], again[1])
    assert np.array_equal(again[2], found[2])


class F64(DenseWeights):
    """Arrays whose decoding keeps float64, for merged weights that must not be rounded."""

    def __init__(self, exactly: dict[str, Any]) -> None:
        super().__init__({name: x.astype(np.float32) for name, x in exactly.items()})
        self.exactly = exactly

    def find(self, name: str) -> Any:
        tensor = super().find(name)
        return None if tensor is None else _Exact(tensor, self.exactly[name])


class _Exact:
    def __init__(self, tensor: Any, array: Any) -> None:
        self.shape, self.encoding, self.array = tensor.shape, tensor.encoding, array

    def decode(self) -> Any:
        return self.array


def test_adapters_that_do_not_fit_are_refused() -> None:
    graph, weights = model("llama")
    new, both = apply([AddAdapters(slots=1, rank=4)], graph, weights)
    program = Driver(new, both, adapter_slots=1, adapter_rank=4).program
    name = "layers.0.attn.q_proj"
    wide = (np.zeros((5, 24), np.float32), np.zeros((24, 5), np.float32))
    with pytest.raises(GraphError, match="rank 4"):
        program.load_adapter(0, {name: wide})
    with pytest.raises(GraphError, match="no node"):
        program.load_adapter(0, {"layers.0.attn.q": wide})
    with pytest.raises(LlamaError, match="slot 1 of 1"):
        program.load_adapter(1, {})
    with pytest.raises(GraphError, match="no linear"):
        apply([AddAdapters(slots=1, rank=4, targets=("*.q",))], graph, weights)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "olmo2"])
def test_a_two_way_tensor_split_is_neutral(architecture: str) -> None:
    changes: dict[str, Any] = {"vocab_size": 62, "attention_bias": True, "mlp_bias": True}
    graph, weights = model(architecture, **changes)
    found = on_ranks(2, lambda rank: apply([TensorSplit(rank, 2)], graph, weights))
    assert np.array_equal(found[0], found[1])
    driver = Driver(graph, weights, "f64")
    plain = np.concatenate(
        [driver.step([(0, TOKENS[a:b], a)])[0] for a, b in ((0, 7), (7, 12), (12, 13))]
    )
    assert np.abs(found[0] - plain).max() < ROUNDING
    part, split = apply([TensorSplit(1, 2)], graph, weights)
    assert part["layers.0.attn.core"].attrs["num_kv_heads"] == 1
    assert not part.weight_problems(split)


def test_what_cannot_be_split_is_listed_or_left_whole() -> None:
    graph, weights = model("olmo2")
    with pytest.raises(GraphError, match="norms all heads together") as caught:
        TensorSplit(0, 2)(graph, weights)
    assert len(caught.value.problems) == 2
    found = on_ranks(2, lambda rank: TensorSplit(rank, 2, leave_whole=True)(graph, weights))
    assert np.abs(found[0] - exact(graph, weights)).max() < ROUNDING
    graph, weights = model("llama", num_key_value_heads=1)
    with pytest.raises(GraphError, match="1 key heads do not divide by 2"):
        TensorSplit(0, 2)(graph, weights)
    graph, weights = apply([SetAct("q8:16")], *model("llama", intermediate_size=40))
    with pytest.raises(GraphError, match="cuts a block of act q8:16"):
        TensorSplit(0, 2)(graph, weights)
    with pytest.raises(ConfigError, match="rank 2 of 2"):
        TensorSplit(2, 2)


def test_linears_with_scales_of_their_own_are_not_fused() -> None:
    graph, weights = model("llama")
    scales = measured_scales(graph, weights, [TOKENS])
    fused, _ = apply([SetAct("static", scales=scales), Fuse()], graph, weights)
    assert {group.kind for group in fused.groups} == {"add_norm"}


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "qwen3_moe", "granite", "phi3"])
@pytest.mark.parametrize("stages", [2, 3])
def test_a_pipeline_is_neutral(architecture: str, stages: int) -> None:
    graph, weights = model(architecture, num_hidden_layers=3)
    cuts = (1,) if stages == 2 else (1, 2)
    found = on_ranks(
        stages, lambda rank: apply([PipelineStage(rank, stages, cuts)], graph, weights)
    )
    assert found[:-1] == [None] * (stages - 1)
    assert np.array_equal(found[-1], exact(graph, weights))
    first, _ = apply([PipelineStage(0, 2)], graph, weights)
    assert "lm_head.weight" not in first.shapes
    assert [layers for g in first.kv_groups for layers in g.layers] == [0]


def test_cuts_that_make_no_stages_are_refused() -> None:
    graph, weights = model("llama")
    for cuts in ((0,), (2,), (1, 1)):
        with pytest.raises(GraphError, match="do not make"):
            PipelineStage(0, 2, cuts)(graph, weights)
    with pytest.raises(ConfigError, match="stage 2 of 2"):
        PipelineStage(2, 2)


def test_tensor_split_of_pipeline_stages() -> None:
    """Rewrites of one phase compose: here each stage is a world of its own, of one rank."""
    graph, weights = model("llama")
    found = on_ranks(
        2,
        lambda rank: apply(
            [PipelineStage(rank, 2), Reencode("f16"), TensorSplit(0, 1)], graph, weights
        ),
    )
    assert np.abs(found[1] - exact(*apply([Reencode("f16")], graph, weights))).max() < ROUNDING


def test_a_rank_without_a_line_is_refused() -> None:
    graph, weights = model("llama")
    part, split = apply([TensorSplit(0, 2)], graph, weights)
    with pytest.raises(GraphError, match="no communicator"):
        Driver(part, split)


def plain_mlp() -> tuple[Graph, Weights]:
    """A layer whose MLP has no gate, with biases, as StarCoder 2 has it."""
    config = TextConfig.model_validate(SIZES)
    b = Builder(config)
    x = attention(b, 0, b.embed(), config.rope())
    h = b.linear("layers.0.mlp.up_proj", x, 24, 36, bias=True)
    h = b.add("activation", "layers.0.mlp.act", h, fn="gelu")
    h = b.linear("layers.0.mlp.down_proj", h, 36, 24, bias=True)
    graph = b.finish("plain", gather_and_norm(b, b.add("add", "layers.0.add", x, h)))
    return graph, random_weights(graph, 2)


def test_an_mlp_without_a_gate_is_split_too() -> None:
    graph, weights = plain_mlp()
    found = on_ranks(2, lambda rank: apply([TensorSplit(rank, 2)], graph, weights))
    assert np.abs(found[0] - exact(graph, weights)).max() < ROUNDING
    part, _ = apply([TensorSplit(1, 2)], graph, weights)
    assert part.shapes["layers.0.mlp.up_proj.weight"] == (18, 24)
