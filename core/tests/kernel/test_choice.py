"""Which backend is chosen, and what is said of the others."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.choice import choose_backend
from llama_core.config import Config
from llama_core.contracts.backend import Device, Devices, Support
from llama_core.errors import MissingCapability
from llama_core.hookspecs import hookimpl
from llama_core.plugins import Plugins


class Backend:
    def __init__(self, *kinds: str) -> None:
        self.found = Devices(tuple(Device(k, k, k, 0) for k in kinds), "" if kinds else "no card")

    def devices(self) -> Devices:
        return self.found

    def supports(self, node: Any) -> Support:
        return Support()

    def compile(self, graph: Any, weights: Any, plan: Any) -> Any:
        raise AssertionError("nothing is compiled here")


def plugins(**backends: tuple[int, Backend]) -> tuple[Plugins, list[str]]:
    """Backends by name with their priorities, and which of them were made."""
    made: list[str] = []
    found = Plugins([], Config())
    for name, (priority, backend) in backends.items():

        @hookimpl
        def llama_create_backend(name: str, backend: Backend = backend) -> Backend:
            made.append(name)
            return backend

        provides = [{"kind": "backend", "name": name, "api": 1, "priority": priority}]
        found.register(
            SimpleNamespace(llama_create_backend=llama_create_backend),
            {"name": name, "summary": "A backend", "provides": provides},
        )
    return found, made


def test_the_highest_that_runs_is_chosen_and_no_lower_one_is_made() -> None:
    found, made = plugins(low=(30, Backend("cpu")), high=(60, Backend("cpu")), best=(90, Backend()))
    choice = choose_backend(found)
    assert choice.name == "high"
    assert choice.rejected == {"best": "no card"}
    assert made == ["best", "high"]


def test_those_that_may_have_had_a_gpu_are_named() -> None:
    found, _ = plugins(
        oracle=(0, Backend("cpu")), low=(30, Backend("gpu")), cpu=(60, Backend("cpu"))
    )
    assert choose_backend(found).reason.endswith("not asked for a GPU, being lower: low")
    assert "lower" not in choose_backend(found, prefer_gpu=False).reason
    assert choose_backend(found, "low").devices[0].kind == "gpu"


def test_a_cpu_that_is_preferred_passes_over_what_has_none() -> None:
    found, _ = plugins(card=(90, Backend("gpu")), cpu=(60, Backend("cpu")))
    assert choose_backend(found).name == "card"
    choice = choose_backend(found, prefer_gpu=False)
    assert (choice.name, choice.rejected) == ("cpu", {"card": "a CPU was asked for"})


def test_where_none_runs_each_says_why() -> None:
    found, _ = plugins(one=(30, Backend()), two=(60, Backend()))
    with pytest.raises(
        MissingCapability, match=r"No backend.*Backend two: no card. Backend one: no card"
    ):
        choose_backend(found)
