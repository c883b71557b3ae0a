"""Architectures, quantizers and rewrites."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np

from llama_core.errors import LlamaError
from llama_core.model import architectures
from llama_core.model.graph import Group
from llama_core.model.weights import DenseWeights, MappedWeights, OverlayWeights, tensor
from llama_core.testing import tiny
from specimens.harness import specimen

_count = itertools.count()
_TENSORS = tuple(tiny.model()[0].shapes)
_NAMED: Any = {"tensors": _TENSORS}


@specimen("architecture", **_NAMED)
class Llama:
    def __init__(self) -> None:
        self.inner = architectures.create("llama")

    def build(self, config: Any) -> Any:
        return self.inner.build(config)

    def rename(self, name: str) -> Any:
        return name if name in _TENSORS else None


@specimen("architecture", "test_builds_a_valid_graph", **_NAMED)
class NamesTwice(Llama):
    def build(self, config: Any) -> Any:
        graph = super().build(config)
        return replace(graph, nodes=(*graph.nodes, graph.nodes[-1]))


@specimen("architecture", "test_build_is_deterministic", **_NAMED)
class Numbered(Llama):
    def build(self, config: Any) -> Any:
        return replace(super().build(config), rewrites=(str(next(_count)),))


@specimen("architecture", "test_config_is_not_changed", **_NAMED)
class FillsIn(Llama):
    def build(self, config: Any) -> Any:
        graph = super().build(config)
        config["head_dim"] = 8
        return graph


@specimen("architecture", "test_broken_configs_are_refused", **_NAMED)
class Trusts(Llama):
    def build(self, config: Any) -> Any:
        config["hidden_size"] + 1
        return super().build(config)


@specimen("architecture", "test_rename_gives_names_of_the_graph", **_NAMED)
class Unknown(Llama):
    def rename(self, name: str) -> Any:
        return super().rename(name) or ("" if name else 0)


@specimen("architecture", "test_checkpoint_fills_the_graph", tensors=_TENSORS)
class ForgetsOne(Llama):
    def rename(self, name: str) -> Any:
        return None if name == _TENSORS[-1] else super().rename(name)


def rounded(one: Any) -> Any:
    x = one.decode()
    scale = np.abs(x).max() / 127
    return tensor((np.round(x / scale) * scale).astype(np.float32))


@specimen("quantizer")
class Rounds:
    needs_calibration = False

    def quantize(self, graph: Any, weights: Any, calibration: Any) -> Any:
        return MappedWeights(weights, lambda name, one: self.one(name, one))

    def one(self, name: str, one: Any) -> Any:
        return rounded(one)


@specimen("quantizer")
class Calibrates(Rounds):
    needs_calibration = True

    def quantize(self, graph: Any, weights: Any, calibration: Any) -> Any:
        if not list(calibration):
            raise LlamaError("it needs something to calibrate with")
        return super().quantize(graph, weights, calibration)


@specimen("quantizer", "test_names_and_shapes_are_kept")
class AddsOne(Rounds):
    def quantize(self, graph: Any, weights: Any, calibration: Any) -> Any:
        more = DenseWeights({"more": np.zeros(3, np.float32)})
        return OverlayWeights(super().quantize(graph, weights, calibration), more)


@specimen("quantizer", "test_input_is_not_changed")
class InPlace(Rounds):
    def one(self, name: str, one: Any) -> Any:
        one.parts["data"][...] = rounded(one).decode()
        return one


@specimen("quantizer", "test_numbers_stay_near")
class LosesTheScale(Rounds):
    def one(self, name: str, one: Any) -> Any:
        return tensor(one.decode() * np.float32(0.1))


@specimen("quantizer", "test_is_deterministic")
class Dithers(Rounds):
    def one(self, name: str, one: Any) -> Any:
        return tensor(one.decode() + np.float32(1e-4 * next(_count)))


@specimen("quantizer", "test_calibration_is_as_declared")
class NeedsMore(Calibrates):
    needs_calibration = False


@specimen("rewrite")
class Halves:
    """Halves one weight and doubles what it gives: the logits stay."""

    phase = "fuse"
    neutral = True

    def __call__(self, graph: Any, weights: Any) -> Any:
        name = graph.nodes[-1].weights.get("weight")
        if graph.nodes[-1].op != "linear" or name == "embed.weight":
            return graph, weights
        last = graph.nodes[-1]
        inner = replace(last, name="lm_head.half")
        outer = architectures.blocks.ops.node("mul", last.name, [inner.name], by=self.by())
        found = replace(graph, nodes=(*graph.nodes[:-1], inner, outer))
        half = DenseWeights({name: self.half(weights.array(name))})
        return self.done(found), OverlayWeights(weights, half)

    def by(self) -> float:
        return 2.0

    def half(self, x: Any) -> Any:
        return x * np.float32(0.5)

    def done(self, graph: Any) -> Any:
        return replace(graph, rewrites=(*graph.rewrites, "halves"))


@specimen("rewrite", "test_phase_is_known")
class Later(Halves):
    phase = "later"


@specimen("rewrite", "test_input_is_not_changed")
class InPlaceToo(Halves):
    neutral = False

    def half(self, x: Any) -> Any:
        x *= np.float32(0.5)
        return x


@specimen("rewrite", "test_gives_a_model_that_fits")
class Regroups(Halves):
    neutral = False

    def done(self, graph: Any) -> Any:
        return replace(super().done(graph), groups=(Group("qkv", ("no.such.node",)),))


@specimen("rewrite", "test_is_deterministic")
class Signs(Halves):
    def done(self, graph: Any) -> Any:
        return replace(graph, rewrites=(*graph.rewrites, f"halves {next(_count)}"))


@specimen("rewrite", "test_is_written_down")
class Silent(Halves):
    def done(self, graph: Any) -> Any:
        return graph


@specimen("rewrite", "test_neutral_keeps_the_logits")
class Triples(Halves):
    def by(self) -> float:
        return 3.0
