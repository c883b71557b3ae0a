"""An environment's generations in a scratch folder, and a market to install from."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from llama_marketplace.install import transaction
from llama_marketplace.install.base import Base
from llama_marketplace.install.generations import Generation, Generations
from llama_marketplace.install.packages import Packages
from llama_marketplace.install.planning import Plan, Planner, Wanted
from llama_marketplace.install.transaction import carry_out
from llama_marketplace.install.verifying import problems

from llama_core import overlay

from .market import Market, Untried


class NoPackages(Packages):
    """The package index of somebody who is offline."""

    def resolve(self, *arguments: object) -> list:
        raise AssertionError(f"the package index was asked for {arguments[0]}")


class Shop:
    """One environment that installs from one market."""

    def __init__(self, market: Market) -> None:
        self.market = market
        self.generations = Generations()
        self.base = Base()
        self.packages: Packages = NoPackages()

    @property
    def planner(self) -> Planner:
        return Planner([self.market], self.generations, self.packages)  # type: ignore[list-item]

    def carry_out(self, plan: Plan) -> Generation:
        return carry_out(plan, self.generations, self.packages, self.base)

    def install(self, *names: str, wanted: Iterable[Wanted] = ()) -> Generation:
        return self.carry_out(self.planner.install([*map(Wanted, names), *wanted]))

    def versions(self) -> dict[str, str]:
        return {each.name: each.version for each in self.generations.current().dists}

    def problems(self) -> list[str]:
        return list(problems(self.generations, self.base))

    def leftovers(self) -> list[str]:
        """What lies in the environment's folder that no generation is."""
        known = {"generations", "lock", overlay.POINTER}
        home = self.generations.home
        return sorted(each.name for each in home.iterdir() if each.name not in known)


@pytest.fixture
def shop(careful_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """One that does not try in a child process what it installs."""
    monkeypatch.setattr(transaction, "Trial", Untried)
    return careful_shop


@pytest.fixture
def careful_shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    for name in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.delenv(overlay.VARIABLE, raising=False)
    monkeypatch.setattr(overlay, "_appended", None)
    return Shop(Market(tmp_path / "market"))


@pytest.fixture
def llama() -> object:
    """Run the command in the scratch home that `shop` made."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llama_core", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    return run
