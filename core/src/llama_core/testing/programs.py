"""The rules of what runs a model: backends that compile graphs, and providers of programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core.contracts.backend import Device
from llama_core.contracts.step import Plan
from llama_core.errors import LlamaError
from llama_core.model.graph import Graph, Node
from llama_core.model.weights import DenseWeights, OverlayWeights, Weights
from llama_core.testing import drive, tiny
from llama_core.testing.oracle import reference
from llama_core.testing.steps import ProgramRules
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check, refuses
from llama_core.testing.whole import WholeProgramRules


class BackendContract(ProgramRules, FreshObjects, PluginContract):
    """What a backend must keep to, compared with the NumPy reference.

    `models` are compiled; those it refuses, with a node that it does not support, are left out.
    `tolerance` bounds the difference of logits, relative to the largest.
    """

    kind = "backend"
    tolerance: ClassVar[float] = 1e-3

    def models(self) -> Mapping[str, tuple[Graph, Weights]]:
        """The models to compile, by name. The first must run."""
        return tiny.models()

    @pytest.fixture
    def backend(self, make: Make) -> Any:
        """A backend that has a device here."""
        one = make()
        devices = one.devices()
        if len(devices) == 0:
            pytest.skip(f"no device: {devices.reason}")
        return one

    @pytest.fixture
    def plan_here(self, backend: Any) -> Plan:
        """The plan, on the first device there is."""
        return replace(self.plan, devices=(backend.devices()[0].id,))

    @pytest.fixture
    def program(self, backend: Any, plan_here: Plan) -> Iterator[Any]:
        """The first model, compiled."""
        try:
            one = backend.compile(*self._first(), plan_here)
        except LlamaError:
            pytest.skip("test_compiles_a_plain_model says why")
        yield one
        one.close()

    def _first(self) -> tuple[Graph, Weights]:
        return next(iter(self.models().values()))

    def test_devices_or_a_reason(self, make: Make) -> None:
        """`devices` gives devices with an id, or none and the reason why."""
        found = make().devices()
        for each in found:
            fits = isinstance(each, Device) and each.id and each.kind and each.memory_bytes >= 0
            check(fits, f"{each!r} is not a Device with an id and a kind.")
        ids = [each.id for each in found]
        check(len(ids) == len(set(ids)), f"two devices have one id: {ids}.")
        reason = getattr(found, "reason", None)
        check(ids or reason, "there is no device and no reason. Give Devices(reason='...').")

    def test_supports_says_why_not(self, make: Make) -> None:
        """A node it cannot run, such as one of an unknown op, gives Support with the reason."""
        found = make().supports(_UNKNOWN)
        check(
            not found and getattr(found, "reason", None),
            f"supports() of an unknown op gave {found!r}. Give Support('why not').",
        )

    def test_compiles_a_plain_model(self, backend: Any, plan_here: Plan) -> None:
        """The first model compiles."""
        try:
            backend.compile(*self._first(), plan_here).close()
        except LlamaError as error:
            check(False, str(error))

    def test_compile_lists_what_it_cannot_run(self, backend: Any, plan_here: Plan) -> None:
        """A graph with unknown ops is refused with a LlamaError that names each such node."""
        graph, weights = self._first()
        last = graph.outputs["logits"]
        more = tuple(replace(_UNKNOWN, name=name, inputs=(last,)) for name in ("odd.a", "odd.b"))
        given = replace(graph, nodes=(*graph.nodes, *more))
        error = refuses(
            lambda: backend.compile(given, weights, plan_here),
            "compile() of a graph with unknown ops must raise a LlamaError.",
        )
        lacking = [node.name for node in more if node.name not in str(error)]
        check(not lacking, f"the error does not name {', '.join(lacking)}: {error}")

    def test_compile_refuses_missing_weights(self, backend: Any, plan_here: Plan) -> None:
        """Weights that are not there are refused with a LlamaError that names them."""
        graph, weights = self._first()
        name = next(iter(graph.shapes))
        given = OverlayWeights(weights, DenseWeights({}), hide=[name])
        error = refuses(
            lambda: backend.compile(graph, given, plan_here),
            f"compile() without the weight {name} must raise a LlamaError.",
        )
        check(name in str(error), f"the error does not name {name}: {error}")

    def test_matches_the_reference(self, backend: Any, plan_here: Plan) -> None:
        """Every model it compiles gives the reference's logits, within the tolerance."""
        for name, (graph, weights) in self.models().items():
            if not all(backend.supports(node) for node in graph.nodes):
                continue
            programs = [
                reference().compile(graph, weights, self.plan),
                backend.compile(graph, weights, plan_here),
            ]
            prompt = drive.tokens(graph.vocab_size, 11)
            expected, found = (_in_steps(each, prompt) for each in programs)
            for each in programs:
                each.close()
            error = float(np.abs(found - expected).max() / np.abs(expected).max())
            check(
                error <= self.tolerance,
                f"{name}: logits are off by {error:.2g} of the largest; the bound is "
                f"{self.tolerance:g}. Compare value by value: the reference runs node by node.",
            )

    def test_weights_are_not_changed(self, backend: Any, plan_here: Plan, program: Any) -> None:
        """Compiling and running leaves the weights as they were."""
        graph, weights = self._first()
        before = tiny.fingerprint(weights)
        one = backend.compile(graph, weights, plan_here)
        _in_steps(one, drive.tokens(graph.vocab_size, 5))
        one.close()
        same = tiny.fingerprint(weights) == before
        check(same, "the weights were changed. Pack into memory of your own.")


_UNKNOWN = Node("no_such_op", "odd")


def _in_steps(program: Any, prompt: list[int]) -> Any:
    """Logits of a prompt in one step, and of what follows it in a second."""
    first, rest = prompt[:-2], prompt[-2:]
    return np.concatenate(
        [
            drive.run(program, drive.Part(first))[0],
            drive.run(program, drive.Part(rest, len(first)))[0],
        ]
    )


class ProviderRules:
    """Mixed into the suites of program providers, beside the rules of the programs they open."""

    plan: ClassVar[Plan]

    def model(self, folder: Path) -> tuple[Path, Mapping[str, Any]]:
        """The path and the config of a small model; the folder is there to write it to."""
        pytest.fail("override model() with the path and the config of one it opens", pytrace=False)

    @pytest.fixture
    def opened(self, make: Make, tmp_path: Path) -> Callable[[], Any]:
        """Opens the model."""
        path, _ = self.model(tmp_path)
        return lambda: make().open(path, self.plan)

    @pytest.fixture
    def program(self, opened: Callable[[], Any]) -> Iterator[Any]:
        """The model, opened."""
        try:
            one = opened()
        except LlamaError:
            pytest.skip("test_opens_what_it_accepts says why")
        yield one
        one.close()

    def test_opens_what_it_accepts(self, make: Make, tmp_path: Path) -> None:
        """The model of this suite is accepted (None), and opens."""
        path, config = self.model(tmp_path)
        reason = make().accepts(path, config)
        check(reason is None, f"accepts() gave {reason!r} for the model of this suite.")
        try:
            make().open(path, self.plan).close()
        except LlamaError as error:
            check(False, f"accepts() gave None, and open() failed: {error}")

    def test_accepts_says_why_not(self, make: Make, tmp_path: Path) -> None:
        """A model of an unknown type is not accepted: a text says why."""
        path, config = self.model(tmp_path)
        found = make().accepts(path, {**config, "model_type": "no-such-model"})
        check(
            isinstance(found, str) and found,
            f"accepts() of model_type 'no-such-model' gave {found!r}. Say why not.",
        )

    def test_open_refuses_junk(self, make: Make, tmp_path: Path) -> None:
        """Opening a folder without a model raises a LlamaError."""
        empty = tmp_path / "empty"
        empty.mkdir()
        refuses(
            lambda: make().open(empty, self.plan),
            "open() of an empty folder must raise a LlamaError.",
        )


class ProgramContract(ProviderRules, ProgramRules, FreshObjects, PluginContract):
    """What a program provider must keep to. Override `model` with one that it opens."""

    kind = "program"


class WholeProgramContract(ProviderRules, WholeProgramRules, FreshObjects, PluginContract):
    """The same of a provider's models that read a text in one step, uncut (`WholeProgram`)."""

    kind = "program"
