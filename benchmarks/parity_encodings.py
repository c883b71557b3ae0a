"""Rows of encodings: a backend against the reference at equal `act`, on random and trained weights.

Without 8-bit activations a whole model is compared. With them only single nodes on equal inputs
can be: the last bit of a float may round an activation's code the other way, and what follows is
then another sum. What the 8 bits cost as such is measured on trained weights, by divergence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from parity_backends import built, logits, make, named, opened
from report import Row

from llama_core.model import ops
from llama_core.model.generated import random_weights
from llama_core.model.graph import FrozenMap, Graph, Node
from llama_core.model.rewrites.act import SetAct
from llama_core.model.rewrites.reencode import Reencode
from llama_core.model.weights import DenseWeights, OverlayWeights

if TYPE_CHECKING:
    from llama_core.contracts.backend import Backend
    from llama_core.model.weights import Weights

BOUND = 1e-5  # of the largest number of an output
DIVERGENCE = 1e-3
TINY = Path(__file__).parent.parent / "tests" / "fixtures" / "tiny"
CONFIG = {
    "model_type": "mixtral",
    "vocab_size": 101,
    "hidden_size": 256,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "num_local_experts": 3,
    "num_experts_per_tok": 2,
}
ENCODINGS = (
    "f32", "f16", "bf16", "q8:g32", "q8:row", "q6:g32", "q4:g32", "q4:g32:min", "q4:g32:zero",
    "q4:g128:min", "q4:g32/256:min", "q4:g32:order", "q3:g32", "q2:g32:min", "q1:g32", "nf4:g64",
    "fp4:g64", "mxfp4", "ternary:g128", "gguf:q4_0", "gguf:q4_1", "gguf:q5_0", "gguf:q5_1",
    "gguf:q8_0", "gguf:q2_k", "gguf:q3_k", "gguf:q4_k", "gguf:q5_k", "gguf:q6_k", "gptq:q4:g128",
    "gptq:q4:g128:order", "awq:q4:g128", "bnb:nf4:b64", "f8e4m3:row", "i8:row",
)  # fmt: skip
ACTS = ("q8:32", "q8:256")
TRAINED = ("f16", "q8:g32", "q4:g32:min", "gguf:q4_k", "gguf:q6_k")


def rows(name: str) -> Iterator[Row]:
    """All encodings on one backend."""
    for encoding in ENCODINGS:
        graph, weights = Reencode(encoding)(*plain())
        tokens = np.random.default_rng(1).integers(0, graph.vocab_size, 24).tolist()
        expected = logits(make("reference"), graph, weights, tokens)
        value = relative(logits(make(name), graph, weights, tokens), expected)
        yield _row(f"encoding.{encoding}.{name}", value, "end to end, act none, two layers")
        for act in ACTS:
            value, inside = nodes(make(name), *SetAct(act, skip=())(graph, weights), tokens)
            note = f"{act}, every node on equal inputs; experts round again inside: of their"
            note += f" rows the median, the worst being {inside:.2g} off"
            yield _row(f"encoding.{encoding}.act-{act.replace(':', '-')}.{name}", value, note)
    if TINY.is_dir():
        yield from divergences(name)


def _row(metric: str, value: float, note: str) -> Row:
    return Row(
        f"parity.{metric}", value, "of the largest", goal=f"<={BOUND:g}", holds=value <= BOUND,
        note=note,
    )  # fmt: skip


def plain() -> tuple[Graph, Weights]:
    """The model whose linears and experts are encoded."""
    graph = built(CONFIG)
    return graph, random_weights(graph, 0)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


# ---------------------------------------------------------------- nodes on equal inputs


def nodes(
    backend: Backend, graph: Graph, weights: Weights, tokens: list[int]
) -> tuple[float, float]:
    """The largest error of any node, given what the reference's own run gives it; and of any row
    of experts, whose second rounding has inputs that differ in their last bits already."""
    worst = inside = 0.0
    for node, inputs, expected in recorded(graph, weights, tokens):
        found = alone(backend, node, inputs, graph, weights, expected.shape[1])
        if node.op == "moe":
            errors = [relative(f, e) for f, e in zip(found, expected, strict=True)]
            worst, inside = max(worst, float(np.median(errors))), max(inside, *errors)
        else:
            worst = max(worst, relative(found, expected))
    return worst, inside


def recorded(
    graph: Graph, weights: Weights, tokens: list[int]
) -> list[tuple[Node, list[np.ndarray], np.ndarray]]:
    """Inputs and output of every linear and every layer's experts, in the reference."""
    from llama_core.builtin.reference import Reference

    seen = []

    class Recorder(Reference):
        def _keep(self, call: ops.Call) -> Any:
            given = [np.array(x) for x in call.inputs]
            result = ops.op(call.node.op).reference(call)
            seen.append((call.node, given, result))
            return result

        op_linear = _keep
        op_moe = _keep

    logits(Recorder(), graph, weights, tokens)
    return seen


def alone(
    backend: Backend, node: Node, inputs: list[np.ndarray], graph: Graph, weights: Weights,
    width: int,
) -> np.ndarray:  # fmt: skip
    """One node by itself: its inputs side by side as vectors, cut apart again."""
    x = np.concatenate(inputs, axis=1).astype(np.float32)
    every = [ops.node("embed", "embed", ("tokens",), {"weight": "embed.weight"})]
    start, parts = 0, []
    for i, one in enumerate(inputs):
        stop = start + one.shape[1]
        parts.append(f"part{i}")
        every.append(ops.node("slice", parts[-1], ("embed",), start=start, stop=stop))
        start = stop
    every.append(replace(node, name="y", inputs=tuple(parts)))
    every.append(ops.node("gather", "out", ("y", "rows")))
    shapes = {"embed.weight": (width, start)}
    shapes |= {name: graph.shapes[name] for name in node.weights.values()}
    small = Graph(
        "node", width, start, graph.context_length, tuple(every), FrozenMap(shapes),
        FrozenMap({"logits": "out"}),
    ).validate()  # fmt: skip
    held = OverlayWeights(
        weights, DenseWeights({"embed.weight": np.zeros((width, start), np.float32)})
    )
    return of_vectors(backend, small, held, x)


def of_vectors(backend: Backend, graph: Graph, weights: Weights, x_TD: np.ndarray) -> np.ndarray:
    """Vectors go in where tokens would."""
    from llama_core.contracts.step import Batch, Plan, Want

    num = len(x_TD)
    program = backend.compile(graph, weights, Plan(max_tokens=num, kv_bytes=1 << 20))
    table = (tuple(range(-(-num // program.kv.block_size))),)
    batch = Batch(
        np.full(num, -1, np.int32),
        np.arange(num, dtype=np.int32),
        np.array([0, num], np.int32),
        (table,) * len(program.kv.groups),
        np.full(num, Want.LOGITS, np.uint8),
        embeddings_TD=x_TD,
    )
    found = program.submit(batch).result().logits_RV
    program.close()
    assert found is not None
    return found


# ---------------------------------------------------------------- what 8 bits cost


def divergences(name: str) -> Iterator[Row]:
    """Divergence of the logits with 8-bit activations from those without, on unseen texts."""
    files = opened(TINY)
    tokens = unseen(files)
    for encoding in TRAINED:
        graph, weights = Reencode(encoding)(built(files.config), named(files))
        without = logits(make(name), graph, weights, tokens)
        for act in ACTS:
            given = SetAct(act)(graph, weights)
            value = divergence(without, logits(make(name), *given, tokens))
            yield Row(
                f"parity.act.{act.replace(':', '-')}.{encoding}.{name}", value, "nat",
                goal=f"<={DIVERGENCE:g}", holds=value <= DIVERGENCE,
                note=f"mean divergence from act none over {len(tokens)} tokens, trained weights",
            )  # fmt: skip


def unseen(files: Any) -> list[int]:
    """Tokens of texts that the small model was not trained on, as many as it can take."""
    from llama_core.model.tokenizer import open_tokenizer

    text = (TINY.parent / "unseen.txt").read_text("utf-8")
    return open_tokenizer(files).encode(text)[: int(files.config["max_position_embeddings"])]


def divergence(truth_TV: np.ndarray, other_TV: np.ndarray) -> float:
    """The mean over rows of KL(truth || other), in float64."""
    p, q = (log_softmax(x.astype(np.float64)) for x in (truth_TV, other_TV))
    return float((np.exp(p) * (p - q)).sum(axis=1).mean())


def log_softmax(x_TV: np.ndarray) -> np.ndarray:
    shifted = x_TV - x_TV.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
