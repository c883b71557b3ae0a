"""Which backend is chosen, and what is said of the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.choice import choose_backend, gpu_in_sight
from llama_core.config import Config
from llama_core.contracts.backend import Device, Devices, Support
from llama_core.errors import MissingCapability, OptionsError
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


def test_the_highest_that_runs_is_chosen_and_no_lower_one_is_made(
    in_sight: Callable[[bool], None],
) -> None:
    in_sight(False)
    found, made = plugins(low=(30, Backend("cpu")), high=(60, Backend("cpu")), best=(90, Backend()))
    choice = choose_backend(found)
    assert choice.name == "high"
    assert choice.rejected == {"best": "no card"}
    assert made == ["best", "high"]


@pytest.fixture
def in_sight(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether the system shows a GPU."""
    return lambda seen: monkeypatch.setattr("llama_core.choice.gpu_in_sight", lambda: seen)


def test_a_gpu_that_only_a_lower_one_has_is_preferred(in_sight: Callable[[bool], None]) -> None:
    in_sight(True)
    found, made = plugins(
        oracle=(0, Backend("cpu")), torch=(30, Backend("cuda", "cpu")), cpu=(60, Backend("cpu"))
    )
    choice = choose_backend(found)
    assert (choice.name, choice.devices[0].kind) == ("torch", "cuda")
    assert choice.reason == "highest priority (30) of those with a GPU here"
    assert choice.rejected == {"cpu": "it has the CPU alone, and a GPU is preferred"}
    assert made == ["cpu", "torch"]
    assert choose_backend(found, prefer_gpu=False).name == "cpu"
    assert choose_backend(found, "cpu").name == "cpu"


def test_where_nothing_has_a_gpu_after_all_the_highest_is_chosen(
    in_sight: Callable[[bool], None],
) -> None:
    in_sight(True)
    found, made = plugins(
        oracle=(0, Backend("cpu")),
        broken=(20, Backend()),
        torch=(30, Backend("cpu")),
        cpu=(60, Backend("cpu")),
    )
    choice = choose_backend(found)
    assert (choice.name, choice.devices[0].kind) == ("cpu", "cpu")
    assert choice.reason == "highest priority (60) of those that run here"
    assert choice.rejected == {"torch": "it has no GPU here, and is lower", "broken": "no card"}
    assert made == ["cpu", "torch", "broken"], "the oracle is no way to a GPU"


def test_where_no_gpu_is_in_sight_no_lower_one_is_made_and_all_are_named(
    in_sight: Callable[[bool], None],
) -> None:
    in_sight(False)
    found, made = plugins(
        oracle=(0, Backend("cpu")), low=(30, Backend("gpu")), cpu=(60, Backend("cpu"))
    )
    assert choose_backend(found).reason.endswith(
        "; no GPU is in sight here, so these were not asked: low"
    )
    assert made == ["cpu"]
    assert "asked" not in choose_backend(found, prefer_gpu=False).reason
    assert choose_backend(found, "low").devices[0].kind == "gpu"


@pytest.mark.parametrize(
    ("system", "machine", "there", "seen"),
    [
        ("linux", "x86_64", "/dev/nvidiactl", True),
        ("linux", "x86_64", "/dev/kfd", True),
        ("linux", "x86_64", "/dev/null", False),
        ("darwin", "arm64", "", True),
        ("darwin", "x86_64", "", False),
        ("win32", "AMD64", "nvcuda.dll", True),
        ("win32", "AMD64", "", False),
    ],
)
def test_a_gpu_is_in_sight_where_the_system_shows_one(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str, there: str, seen: bool
) -> None:
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr(Path, "exists", lambda path: bool(there) and str(path).endswith(there))
    assert gpu_in_sight() is seen


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


def test_options_that_none_takes_are_the_mistake_and_nothing_is_to_be_installed() -> None:
    found, _ = plugins(one=(30, Backend("cpu")))
    with pytest.raises(OptionsError, match=r"takes these options.*Backend one.*threads") as caught:
        choose_backend(found, options={"threads": 99_999_999})
    assert "Install" not in str(caught.value)
