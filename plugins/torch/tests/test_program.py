"""A compiled program beyond its logits: what it keeps, refuses, samples and says."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from llama_core.announce import Announcements
from llama_core.builtin.reference import Reference
from llama_core.contracts.step import DeviceSampling, Plan, Want
from llama_core.errors import ConfigError, LlamaError, StrictError
from llama_core.model import ops
from llama_core.model.graph import FrozenMap, GraphError
from llama_core.model.weights import DenseWeights, OverlayWeights, reencoded
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

pytest.importorskip("torch", reason="torch is not installed")

import torch
from llama_plugin_torch.backend import TorchBackend
from llama_plugin_torch.dtypes import compute_type

PLAN = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8, in_flight=2)


def program(plan: Plan = PLAN, **options: Any) -> Any:
    return TorchBackend(**options).compile(*tiny.model(), plan)


def test_devices_are_real() -> None:
    """The processor is always one of them, with its memory."""
    first = TorchBackend().devices()[0]
    assert (first.id, first.kind) == ("cpu", "cpu")
    assert first.memory_bytes > 1 << 28


@pytest.mark.parametrize("name", ["cuda:77", "cpu:1", "gpu"])
def test_a_device_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=name):
        program(replace(PLAN, devices=(name,)))


def test_one_program_runs_on_one_device() -> None:
    with pytest.raises(ConfigError, match="2 devices"):
        program(replace(PLAN, devices=("cpu", "cpu")))


def test_what_one_sequence_leaves_behind_never_reaches_another() -> None:
    """Blocks in which NaN was written are given to another sequence, which notices nothing."""
    one = program()
    tokens = drive.tokens(64, 24)
    clean = [drive.run(one, Part(tokens[:6], 0, 0))[0], drive.run(one, Part(tokens[6:7], 6, 0))[0]]
    spoilt = drive.batch(one.kv, Part([-1] * 24, 0, 0))
    drive.step(one, replace(spoilt, embeddings_TD=np.full((24, 32), np.nan, np.float32)))
    other = [Part(tokens[:9], 0, 1), Part(tokens[9:10], 9, 1)]
    drive.run(one, other[0])
    again = [
        drive.run(one, Part(tokens[:6], 0, 0))[0],
        drive.run(one, Part(tokens[6:7], 6, 0), other[1])[0],
    ]
    for expected, found in zip(clean, again, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nan_is_reported_and_given(caplog: pytest.LogCaptureFixture) -> None:
    one = program()
    batch = drive.batch(one.kv, Part([1, 2], 0, 0), Part([-1, 3], 0, 1))
    vectors = np.full((4, 32), np.nan, np.float32)
    with caplog.at_level(logging.WARNING):
        found = drive.step(one, replace(batch, embeddings_TD=vectors)).logits_RV
    assert found is not None
    assert np.isfinite(found).all(1).tolist() == [True, True, False, False]
    assert "logits of sequences 1 hold NaN" in caplog.text


def test_vectors_stand_in_for_tokens() -> None:
    """The embedding of a token, given as a vector, gives what the token gives."""
    _, weights = tiny.model()
    one, tokens = program(), drive.tokens(64, 5)
    expected = drive.run(one, Part(tokens))[0]
    batch = drive.batch(one.kv, Part([tokens[0], -1, -1, *tokens[3:]], owner=1))
    vectors = weights.array("embed.weight")[tokens]
    found = drive.step(one, replace(batch, embeddings_TD=vectors)).logits_RV
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_hidden_states_without_logits() -> None:
    """Where nobody wants logits they are not computed, and the past is written all the same."""
    plain = Reference().compile(*tiny.model(), PLAN)
    one, tokens = program(), drive.tokens(64, 8)
    want = Part(tokens[:6], want=Want.HIDDEN)
    expected, found = (drive.step(p, drive.batch(p.kv, want)) for p in (plain, one))
    assert found.logits_RV is None
    np.testing.assert_allclose(found.hidden_RD, expected.hidden_RD, atol=1e-5)
    after = [drive.run(p, Part(tokens[6:], 6))[0] for p in (plain, one)]
    np.testing.assert_allclose(after[1], after[0], atol=1e-5)


def test_steps_go_on_from_tokens_not_yet_fetched() -> None:
    """Two steps in flight give what step by step gives; the second never saw the token."""
    one, prompt = program(), drive.tokens(64, 6)
    tokens, length = list(prompt), len(prompt)
    for _ in range(5):
        rows = tokens[len(tokens) - 1 :] if len(tokens) > length else tokens
        part = Part(rows, len(tokens) - len(rows), 0, Want.TOKEN)
        tokens.append(int(drive.step(one, drive.batch(one.kv, part)).tokens_R[-1]))
    pending = [one.submit(drive.batch(one.kv, Part(prompt, 0, 1, Want.TOKEN)))]
    for i in range(4):
        batch = drive.batch(one.kv, Part([0], length + i, 1, Want.TOKEN))
        previous = np.array([length - 1 if i == 0 else 0], np.int32)
        pending.append(one.submit(replace(batch, previous_T=previous)))
    assert [int(p.result().tokens_R[-1]) for p in pending] == tokens[length:]


def test_going_on_from_nothing_is_refused() -> None:
    one = program()
    drive.run(one, Part([1, 2]))
    batch = drive.batch(one.kv, Part([0], 2))
    with pytest.raises(LlamaError, match="sampled no token"):
        one.submit(replace(batch, previous_T=np.array([1], np.int32)))


def test_chains_that_it_does_not_run_are_refused() -> None:
    one = program()
    batch = drive.batch(one.kv, Part([1], want=Want.TOKEN))
    chain = DeviceSampling(chain=(("temperature", 0.5), ("multinomial", 0.0)))
    with pytest.raises(LlamaError, match="temperature"):
        one.submit(replace(batch, sampling_S=(chain,)))


def test_encoded_weights_are_decoded_aloud(caplog: pytest.LogCaptureFixture) -> None:
    graph, weights = tiny.model()
    narrow = reencoded(weights, lambda name, x: "f8e4m3" if len(x.shape) == 2 else None)
    with caplog.at_level(logging.WARNING):
        found = drive.run(TorchBackend().compile(graph, narrow, PLAN), Part([1, 2, 3]))[0]
    assert "in f8e4m3) to f32" in caplog.text
    expected = drive.run(Reference().compile(graph, narrow, PLAN), Part([1, 2, 3]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    strict = TorchBackend(announcements=Announcements(strict=True))
    with pytest.raises(StrictError, match="f8e4m3"):
        strict.compile(graph, narrow, PLAN)


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_plain_narrow_weights_are_no_fallback(kind: str) -> None:
    graph, weights = tiny.model()
    narrow = reencoded(weights, lambda name, x: kind)
    strict = TorchBackend(announcements=Announcements(strict=True))
    found = drive.run(strict.compile(graph, narrow, PLAN), Part([1, 2, 3]))[0]
    expected = drive.run(Reference().compile(graph, narrow, PLAN), Part([1, 2, 3]))[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_automatic_type_never_narrows() -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda:0")
    assert compute_type("auto", ["bf16", "bf16"], cpu) == torch.float32
    assert compute_type("auto", ["bf16", "bf16"], gpu) == torch.bfloat16
    assert compute_type("auto", ["bf16", "f32"], gpu) == torch.float32
    assert compute_type("f16", ["f32"], cpu) == torch.float16


def test_what_is_computed_in_16_bits_is_kept_in_16() -> None:
    wide, narrow = program().kv, program(dtype="bf16").kv
    assert narrow.groups[0].bytes_per_token * 2 == wide.groups[0].bytes_per_token


def test_too_little_memory_is_said_with_the_remedy() -> None:
    with pytest.raises(ConfigError, match="Raise kv_bytes"):
        program(replace(PLAN, kv_bytes=100))


def test_rows_pick_their_adapter() -> None:
    """Each sequence by the slot it names, slot -1 by none; an emptied slot adds nothing."""
    graph, weights = tiny.model()
    name = "layers.0.attn.q_proj"
    target = graph[name]
    inner, outer = target.inputs[0], 32
    shapes = {f"{name}.lora.a": (2, 4, 32), f"{name}.lora.b": (2, outer, 4)}
    roles = {"a": f"{name}.lora.a", "b": f"{name}.lora.b"}
    lora = ops.node("lora", f"{name}.lora", (name, inner, "adapters"), roles)
    nodes = []
    for node in graph.nodes:
        if name in node.inputs:
            inputs = tuple(lora.name if v == name else v for v in node.inputs)
            node = replace(node, inputs=inputs)
        nodes += [node, lora] if node.name == name else [node]
    with_slots = replace(graph, nodes=tuple(nodes), shapes=graph.shapes.also(**shapes)).validate()
    over = DenseWeights({key: np.zeros(shape, np.float32) for key, shape in shapes.items()})
    given = OverlayWeights(weights, over)
    plan = replace(PLAN, adapter_slots=2, adapter_rank=4)
    programs = [b.compile(with_slots, given, plan) for b in (Reference(), TorchBackend())]
    dice = np.random.default_rng(0)
    pairs = [
        tuple(dice.standard_normal(s).astype(np.float32) for s in ((rank, 32), (outer, rank)))
        for rank in (3, 4)
    ]
    parts = [Part(drive.tokens(64, 4), 0, owner) for owner in range(3)]
    outputs = []
    for one in programs:
        for slot, pair in enumerate(pairs):
            one.load_adapter(slot, {name: pair})
        batch = drive.batch(one.kv, *parts)
        slots = np.array([1, -1, 0], np.int32)
        outputs.append(drive.step(one, replace(batch, adapters_S=slots)).logits_RV)
    np.testing.assert_allclose(outputs[1], outputs[0], atol=1e-4)
    assert np.abs(outputs[1][:4] - outputs[1][4:8]).max() > 0.1
    programs[1].load_adapter(1, {})
    batch = replace(drive.batch(one.kv, *parts), adapters_S=np.array([1, -1, 1], np.int32))
    emptied = drive.step(programs[1], batch).logits_RV
    np.testing.assert_allclose(emptied[:4], emptied[4:8], atol=1e-5)
    with pytest.raises(GraphError, match="takes adapters"):
        programs[1].load_adapter(0, {"layers.9.attn.q_proj": pairs[0]})
    with pytest.raises(GraphError, match="do not fit"):
        programs[1].load_adapter(0, {name: (pairs[0][0], pairs[1][1])})


def test_an_op_of_a_plugin_runs_on_its_reference(caplog: pytest.LogCaptureFixture) -> None:
    """It is announced, and the logits are the reference's."""
    halve = ops.Op(
        "test_halve", "x / 2", ("x",), lambda node, i, w: i[0], lambda call: call.inputs[0] / 2
    )
    graph, weights = tiny.model()
    last = graph.outputs["logits"]
    ops.register_op(halve)
    try:
        node = ops.node("test_halve", "halved", (last,))
        outputs = FrozenMap({**graph.outputs, "logits": "halved"})
        more = replace(graph, nodes=(*graph.nodes, node), outputs=outputs)
        with caplog.at_level(logging.WARNING):
            one = TorchBackend().compile(more, weights, PLAN)
        assert "runs 1 'test_halve' nodes on the NumPy reference" in caplog.text
        found = drive.run(one, Part([1, 2, 3]))[0]
    finally:
        del ops.OPS["test_halve"]
    np.testing.assert_allclose(found * 2, drive.run(program(), Part([1, 2, 3]))[0], atol=1e-6)


def test_collectives_need_a_communicator() -> None:
    graph, weights = tiny.model()
    summed = ops.node("all_reduce", "summed", (graph.outputs["logits"],))
    more = replace(graph, nodes=(*graph.nodes, summed))
    with pytest.raises(GraphError, match="communicator"):
        TorchBackend().compile(more, weights, PLAN)
