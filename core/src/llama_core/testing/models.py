"""The rules of what makes and remakes models: architectures, quantizers, rewrites."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core.contracts.rewrite import PHASES
from llama_core.contracts.step import Plan
from llama_core.errors import LlamaError
from llama_core.model.graph import Graph
from llama_core.model.op_backend import COLLECTIVES
from llama_core.model.weights import Weights
from llama_core.testing import drive, tiny
from llama_core.testing.oracle import reference
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check, refuses

Model = tuple[Graph, Weights]


class ArchitectureContract(PluginContract):
    """What an architecture must keep to.

    `config` is a small model's, in the words of its `config.json`; `tensors` are the names in
    such a model's checkpoint.
    """

    kind = "architecture"
    config: ClassVar[Mapping[str, Any]] = tiny.CONFIG
    tensors: ClassVar[Sequence[str]] = ()

    def test_builds_a_valid_graph(self, make: Make) -> None:
        """The config gives a graph in which everything fits and every weight has a shape."""
        graph = make().build(self._config())
        check(isinstance(graph, Graph), f"build() gave {graph!r}. Give a Graph.")
        try:
            graph.validate()
        except LlamaError as error:
            check(False, str(error))
        unnamed = set(graph.shapes) - {
            name for node in graph.nodes for name in node.weights.values()
        }
        check(not unnamed, f"no node reads the weights {', '.join(sorted(unnamed))}.")

    def test_build_is_deterministic(self, make: Make) -> None:
        """The same config gives an equal graph."""
        graphs = [make().build(self._config()) for _ in range(2)]
        check(graphs[0] == graphs[1], "the same config gave two graphs. Do not depend on sets.")

    def test_config_is_not_changed(self, make: Make) -> None:
        """The config it was given is as it was."""
        given = self._config()
        make().build(given)
        check(given == self._config(), "build() changed the config. Work on a copy.")

    def test_broken_configs_are_refused(self, make: Make) -> None:
        """A config that lacks a key, or holds nonsense in one, gives a graph or a LlamaError."""
        for about, config in _broken(self._config()):
            try:
                make().build(config)
            except LlamaError:
                continue
            except Exception as error:  # noqa: BLE001 - any other error is the finding
                check(
                    False,
                    f"a config with {about} made build() raise {type(error).__name__}: {error}. "
                    "Check what is read, and raise a LlamaError that names the key.",
                )

    def test_rename_gives_names_of_the_graph(self, make: Make) -> None:
        """Every tensor of a checkpoint gets a name that the graph knows, or None."""
        one = make()
        shapes = one.build(self._config()).shapes
        for tensor in (*self.tensors, "no.such.tensor", ""):
            found = one.rename(tensor)
            fits = found is None or isinstance(found, str)
            check(fits, f"rename({tensor!r}) gave {found!r}. Give a canonical name, or None.")
            known = found is None or tensor not in self.tensors or found in shapes
            check(known, f"rename({tensor!r}) gave {found!r}, which no weight of the graph is.")

    def test_checkpoint_fills_the_graph(self, make: Make) -> None:
        """The tensors of a checkpoint, renamed, are all the weights that the graph names."""
        if not self.tensors:
            pytest.skip("set `tensors` to the names in a checkpoint of `config`")
        one = make()
        named = {one.rename(tensor) for tensor in self.tensors}
        lacking = set(one.build(self._config()).shapes) - named
        check(
            not lacking,
            f"rename() gives {', '.join(sorted(lacking))} for no tensor of the checkpoint.",
        )

    def _config(self) -> dict[str, Any]:
        return copy.deepcopy(dict(self.config))


_NONSENSE: tuple[Any, ...] = (None, "junk", -1, 0, 10**30, [], {})


def _broken(config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "nothing in it", {}
    for key in config:
        yield f"no {key}", {other: value for other, value in config.items() if other != key}
        for value in _NONSENSE:
            yield f"{key} = {value!r}", {**config, key: value}


class QuantizerContract(FreshObjects, PluginContract):
    """What a quantizer must keep to. `models` are tried; `calibration` is what it may look at.

    `most_error` bounds the root mean square error of a matrix, relative to its own.
    """

    kind = "quantizer"
    calibration: ClassVar[Sequence[Sequence[int]]] = (tuple(range(1, 30)), tuple(range(40, 60)))
    most_error: ClassVar[float] = 0.7

    def models(self) -> Mapping[str, Model]:
        """The models to quantize, by name."""
        return tiny.models()

    def test_names_and_shapes_are_kept(self, make: Make) -> None:
        """The same tensors come out, with the shapes they had."""
        for name, graph, weights, found in self._all(make):
            check(
                set(found) == set(weights),
                f"{name}: the names of the tensors differ. Keep them all, and add none.",
            )
            for key, tensor in weights.items():
                shape = tuple(found[key].shape)
                check(shape == tuple(tensor.shape), f"{name}: {key} {tensor.shape} became {shape}.")
            fits = not graph.weight_problems(found)
            check(fits, f"{name}: the weights no longer fit the graph.")

    def test_input_is_not_changed(self, make: Make) -> None:
        """The weights and the graph it was given are as they were."""
        for name, (graph, weights) in self.models().items():
            before, was = tiny.fingerprint(weights), copy.deepcopy(graph)
            found = make().quantize(graph, weights, self.calibration)
            tiny.fingerprint(found)
            same = tiny.fingerprint(weights) == before and graph == was
            check(same, f"{name}: it changed what it was given. Decode into a copy of your own.")

    def test_numbers_stay_near(self, make: Make) -> None:
        """What is decoded again is near what was encoded, and finite."""
        for name, _, weights, found in self._all(make):
            for key, tensor in weights.items():
                x, y = tensor.decode(), found[key].decode()
                error = float(np.sqrt(np.mean((x - y) ** 2) / np.mean(x**2)))
                check(
                    error <= self.most_error,
                    f"{name}: {key} is off by {error:.2f} of its size; the bound is "
                    f"{self.most_error}. Are scales or codes in another order than decoded?",
                )

    def test_is_deterministic(self, make: Make) -> None:
        """The same model and calibration give the same bytes."""
        for name, (graph, weights) in self.models().items():
            prints = [
                tiny.fingerprint(make().quantize(graph, weights, self.calibration)) for _ in "12"
            ]
            check(prints[0] == prints[1], f"{name}: two runs differ. Seed what is random.")

    def test_calibration_is_as_declared(self, make: Make) -> None:
        """Without calibration it works, or where it `needs_calibration` raises a LlamaError."""
        graph, weights = next(iter(self.models().values()))
        needs = make().needs_calibration
        check(isinstance(needs, bool), f"needs_calibration is {needs!r}; make it True or False.")
        if needs:
            refuses(
                lambda: tiny.fingerprint(make().quantize(graph, weights, ())),
                "it needs calibration and was given none; it must raise a LlamaError.",
            )
        else:
            try:
                tiny.fingerprint(make().quantize(graph, weights, ()))
            except LlamaError as error:
                check(False, f"it says it needs no calibration, and without: {error}")

    def _all(self, make: Make) -> Iterator[tuple[str, Graph, Weights, Weights]]:
        for name, (graph, weights) in self.models().items():
            yield name, graph, weights, make().quantize(graph, weights, self.calibration)


class RewriteContract(FreshObjects, PluginContract):
    """What a rewrite must keep to. `models` are tried."""

    kind = "rewrite"

    def models(self) -> Mapping[str, Model]:
        """The models to rewrite, by name."""
        return tiny.models()

    def test_phase_is_known(self, make: Make) -> None:
        """Its phase is one of those there are, and `neutral` is True or False."""
        one = make()
        check(one.phase in PHASES, f"the phase is {one.phase!r}, not one of {', '.join(PHASES)}.")
        check(isinstance(one.neutral, bool), f"neutral is {one.neutral!r}; make it True or False.")

    def test_input_is_not_changed(self, make: Make) -> None:
        """The graph and the weights it was given are as they were."""
        for name, (graph, weights) in self.models().items():
            was, before = copy.deepcopy(graph), tiny.fingerprint(weights)
            _, found = make()(graph, weights)
            tiny.fingerprint(found)
            same = graph == was and tiny.fingerprint(weights) == before
            check(same, f"{name}: it changed what it was given. Give new ones (Graph.map, views).")

    def test_gives_a_model_that_fits(self, make: Make) -> None:
        """The graph that comes out is valid, and its weights are all there in their shapes."""
        for name, (given, weights) in self.models().items():
            graph, found = make()(given, weights)
            try:
                problems = graph.validate().weight_problems(found)
            except LlamaError as error:
                problems = [str(error)]
            check(not problems, f"{name}: {'; '.join(problems)}")

    def test_is_deterministic(self, make: Make) -> None:
        """The same model gives an equal graph and the same bytes."""
        for name, model in self.models().items():
            (graph, weights), (other, others) = make()(*model), make()(*model)
            same = graph == other and tiny.fingerprint(weights) == tiny.fingerprint(others)
            check(same, f"{name}: two runs differ. Keep nothing between calls, draw nothing.")

    def test_is_written_down(self, make: Make) -> None:
        """A graph that was changed says so: its `rewrites` go on from those before."""
        for name, (given, weights) in self.models().items():
            graph, _ = make()(given, weights)
            before, after = given.rewrites, graph.rewrites
            grown = after[: len(before)] == before and len(after) > len(before)
            check(
                grown or graph == given,
                f"{name}: `rewrites` were {before} and are {after}. Append the rewrite's name, "
                "as Graph.map does.",
            )

    def test_neutral_keeps_the_logits(self, make: Make) -> None:
        """Where it says `neutral`, the reference gives the same logits, up to rounding."""
        if not make().neutral:
            pytest.skip("it does not claim to be neutral")
        for name, (given, weights) in self.models().items():
            graph, found = make()(given, weights)
            if any(node.op in COLLECTIVES for node in graph.nodes):
                pytest.skip("one rank's part cannot be compared alone")
            before, after = _logits(given, weights), _logits(graph, found)
            check(
                np.allclose(before, after, rtol=1e-4, atol=1e-6),
                f"{name}: logits differ by up to {np.abs(before - after).max():.3g}. Correct it, "
                "or set neutral = False.",
            )


def _logits(graph: Graph, weights: Weights) -> Any:
    program: Any = reference("f64").compile(graph, weights, Plan(block_size=4, kv_bytes=1 << 20))
    answer = drive.run(program, drive.Part(drive.tokens(graph.vocab_size, 9)))[0]
    program.close()
    return answer
