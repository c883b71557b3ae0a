"""Graphs whose ranks talk: two programs, each in a thread, over queues."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import Queue
from typing import Any

import numpy as np
import pytest

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan
from llama_core.model import ops
from llama_core.model.graph import FrozenMap, Graph, Node
from llama_core.model.weights import DenseWeights, Weights
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_torch.backend import TorchBackend

PLAN = Plan(kv_bytes=1 << 20, block_size=4, world_size=2, devices=("cpu",))


class Line:
    """One rank's end: arrays handed over in this process."""

    world_size = 2

    def __init__(self, rank: int, queues: Sequence[Queue[Any]]) -> None:
        self.rank = rank
        self._mine, self._its = queues[rank], queues[1 - rank]

    def _both(self, array: Any) -> list[Any]:
        self._its.put(array)
        pair = [array, self._mine.get(timeout=60)]
        return pair if self.rank == 0 else pair[::-1]

    def all_reduce(self, array: Any) -> Any:
        return sum(self._both(array))

    def all_gather(self, array: Any, axis: int) -> Any:
        return np.concatenate(self._both(array), axis)

    def send(self, array: Any, to: int) -> None:
        self._its.put(array)

    def recv(self, source: int) -> Any:
        return self._mine.get(timeout=60)


def run(parts: Sequence[tuple[Graph, Weights]], tokens: Sequence[int]) -> list[Any]:
    """Both ranks' outputs, a prompt and then one more row."""
    queues: list[Queue[Any]] = [Queue(), Queue()]

    def one(rank: int) -> Any:
        plan = replace(PLAN, rank=rank, communicator=Line(rank, queues))
        program = TorchBackend().compile(*parts[rank], plan)
        batches = (Part(tokens[:-1]), Part(tokens[-1:], len(tokens) - 1))
        found = [drive.step(program, drive.batch(program.kv, b)).logits_RV for b in batches]
        return None if found[0] is None else np.concatenate(found)

    with ThreadPoolExecutor(2) as threads:
        return list(threads.map(one, range(2)))


def expected(graph: Graph, weights: Weights, tokens: Sequence[int]) -> Any:
    program = Reference().compile(graph, weights, replace(PLAN, world_size=1))
    return drive.run(program, Part(tokens))[0]


def test_a_model_cut_in_two_stages() -> None:
    """The first rank runs the first layer and sends; the second receives and answers."""
    graph, weights = tiny.model()
    cut = next(i for i, n in enumerate(graph.nodes) if n.name.startswith("layers.1."))
    shared = next(v for v in graph.nodes[cut].inputs if v in {n.name for n in graph.nodes[:cut]})
    sent = ops.node("send", "sent", (shared,), to=1)
    got = ops.node("recv", shared, (), source=0, width=graph.hidden_size)
    first = replace(graph, nodes=(*graph.nodes[:cut], sent), outputs=FrozenMap({})).validate()
    second = replace(graph, nodes=(got, *graph.nodes[cut:])).validate()
    tokens = drive.tokens(graph.vocab_size, 7)
    nothing, found = run([(first, weights), (second, weights)], tokens)
    assert nothing is None
    np.testing.assert_allclose(found, expected(graph, weights, tokens), atol=1e-5)


def test_a_head_and_an_mlp_split_over_two_ranks() -> None:
    """Columns of the head are gathered; rows of a down projection are summed."""
    graph, weights = tiny.model()
    tokens = drive.tokens(graph.vocab_size, 7)
    found = run([split(graph, weights, rank) for rank in range(2)], tokens)
    for logits in found:
        np.testing.assert_allclose(logits, expected(graph, weights, tokens), atol=1e-5)


def split(graph: Graph, weights: Weights, rank: int) -> tuple[Graph, Weights]:
    arrays = {name: weights.array(name) for name in graph.shapes}
    down = graph["layers.0.mlp.down_proj"]
    half = slice(rank * 32, (rank + 1) * 32)
    arrays[down.weights["weight"]] = arrays[down.weights["weight"]][:, half]
    arrays["lm_head.weight"] = arrays["lm_head.weight"][half]
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.name == down.name:
            part = ops.node("slice", "part", down.inputs, start=half.start, stop=half.stop)
            mine = replace(down, name="mine", inputs=("part",))
            nodes += [part, mine, ops.node("all_reduce", down.name, ("mine",))]
        elif node.name == "lm_head":
            nodes += [
                replace(node, name="columns"),
                ops.node("all_gather", "lm_head", ("columns",), world_size=2),
            ]
        else:
            nodes.append(node)
    shapes = FrozenMap({name: x.shape for name, x in arrays.items()})
    return replace(graph, nodes=tuple(nodes), shapes=shapes).validate(), DenseWeights(arrays)
