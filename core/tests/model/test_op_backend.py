"""The smallest honest backend: a few ops on arrays of its own, the rest announced."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from llama_core import contracts
from llama_core.announce import Announcements
from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan
from llama_core.errors import StrictError
from llama_core.model import ops
from llama_core.model.graph import GraphError, Node
from llama_core.model.op import Call
from llama_core.model.op_backend import OpBackend

from .small import Driver, model, prompt


@dataclass
class There:
    """An array that only this backend can read."""

    array: Any


class Tiny(OpBackend):
    name = "tiny"

    def upload(self, array: Any) -> There:
        return There(array)

    def download(self, array: There) -> Any:
        return array.array

    def op_linear(self, call: Call) -> There:
        return There(call.inputs[0].array @ call.weights["weight"].array.T)

    def op_add(self, call: Call) -> There:
        return There(call.inputs[0].array + call.inputs[1].array)


def test_its_own_ops_and_the_reference_for_the_rest(caplog: pytest.LogCaptureFixture) -> None:
    graph, weights = model("mistral")
    driver = Driver(graph, weights)
    tokens = prompt(9)
    (expected,) = driver.step([(0, tokens, 0)])
    driver.program = Tiny().compile(graph, weights, Plan(kv_bytes=1 << 20, block_size=4))  # type: ignore[assignment]
    (found,) = driver.step([(0, tokens, 0)])
    assert np.allclose(found, expected, atol=1e-4)
    assert driver.program.invariance == "none"
    assert "backend 'tiny' runs 5 'rms_norm' nodes on the NumPy reference" in caplog.text
    assert "'linear'" not in caplog.text


def test_strict_refuses_the_reference() -> None:
    graph, weights = model("mistral")
    with pytest.raises(StrictError, match="tiny"):
        Tiny(Announcements(strict=True)).compile(graph, weights, Plan())
    Reference("f32", Announcements(strict=True)).compile(graph, weights, Plan())


def test_support_says_why_not() -> None:
    assert Tiny().supports(ops.node("add", "x", ("a", "b")))
    assert Tiny().supports(ops.node("slice", "x", ("a",), start=0, stop=1)).reason == (
        "backend 'tiny' has no 'slice'"
    )
    assert Reference().supports(Node("warp", "x")).reason == "there is no op 'warp'"
    assert contracts.spec("backend").unfulfilled(Reference()) is None


def test_unknown_ops_are_all_named() -> None:
    graph, weights = model("llama")
    odd = tuple(Node("warp", name, ("norm",)) for name in ("odd.a", "odd.b"))
    with pytest.raises(GraphError) as caught:
        Tiny().compile(replace(graph, nodes=(*graph.nodes, *odd)), weights, Plan())
    assert "odd.a" in str(caught.value)
    assert "odd.b" in str(caught.value)
