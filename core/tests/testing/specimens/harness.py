"""Specimens: small plugins, one good for every kind and one broken for every rule.

They are registered in one `Plugins`, and their suites run in one pytest session of their own; the
tests beside this folder look at what came of it.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llama_core import contracts, hookimpl
from llama_core.config import Config
from llama_core.plugins import Plugins
from llama_core.testing import Site, contract

NAME = "it"  # of every capability here
SPECIMENS: list[Specimen] = []


@dataclass(slots=True)
class Specimen:
    """One plugin with one capability, and the one rule that it breaks."""

    kind: str
    make: Callable[..., Any] | None  # None: it is installed in the site, not registered
    breaks: str | None = None
    capability: Mapping[str, Any] = field(default_factory=dict)  # more of the manifest
    suite: Mapping[str, Any] = field(default_factory=dict)  # attributes of the test class
    plugin: str = ""
    says: str = ""  # part of what its author is told
    keeps_to_itself: str = ""  # what would lead its author astray

    def __str__(self) -> str:
        return f"{self.plugin}-{self.breaks or 'good'}"


def specimen(
    kind: str,
    breaks: str | None = None,
    make: Callable[..., Any] | None = None,
    *,
    manifest: Mapping[str, Any] | None = None,
    plugin: str = "",
    says: str = "",
    keeps_to_itself: str = "",
    **suite: Any,
) -> Any:
    """Add a specimen; without `make`, a decorator of the class or function that makes it."""
    if make is None and not plugin:
        more = {"manifest": manifest, "says": says, "keeps_to_itself": keeps_to_itself, **suite}
        return lambda made: specimen(kind, breaks, made, **more) and made
    plugin = plugin or f"{kind}-{len(SPECIMENS)}"
    one = Specimen(kind, make, breaks, manifest or {}, suite, plugin, says, keeps_to_itself)
    SPECIMENS.append(one)
    return True


def suites() -> dict[str, type]:
    """A test class for each specimen, by name."""
    return {
        f"Test_{one.plugin}": type(
            f"Test_{one.plugin}",
            (contract(one.kind),),
            {"provides": NAME, "plugin": one.plugin, **one.suite},
        )
        for one in SPECIMENS
    }


def register(plugins: Plugins) -> None:
    """Add all specimens that are no installed plugins."""
    for one in SPECIMENS:
        if one.make is None:
            continue
        table = {"kind": one.kind, "name": NAME, "api": 1, "summary": "A specimen"}
        provides = {k: v for k, v in {**table, **one.capability}.items() if v is not None}
        manifest = {"name": one.plugin, "summary": "A specimen", "provides": [provides]}
        plugins.register(_module(one), manifest)


def _module(one: Specimen) -> types.ModuleType:
    module = types.ModuleType(one.plugin.replace("-", "_"))
    make = one.make
    assert make is not None

    def hook(name: str, options: Any) -> Any:
        return make(**options)

    claimed = contracts.spec(one.kind).hook
    is_other = one.breaks == "test_activates_as_claimed"
    setattr(module, "llama_create_router" if is_other else claimed, hookimpl(hook))
    return module


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What came of every rule of every specimen."""

    failed: dict[str, dict[str, str]]  # plugin -> rule -> message
    passed: dict[str, set[str]]
    skipped: dict[str, dict[str, str]]
    output: str


_num_runs = itertools.count()
PLUGINS: Plugins  # of the run under way

_FILE = """
import pytest
from specimens import harness

globals().update(harness.suites())

@pytest.fixture(scope="session")
def llama_plugins():
    return harness.PLUGINS
"""


def run(folder: Path, site: Site) -> Outcomes:
    """Run every suite on its specimen, in this process."""
    global PLUGINS
    watch = _Watch()
    with site.plugins(Config(max_faults=1_000_000_000)) as PLUGINS:
        register(PLUGINS)
        output = run_file(folder, _FILE, watch)
    return Outcomes(watch.failed, watch.passed, watch.skipped, output)


def run_file(folder: Path, text: str, *plugins: object, args: tuple[str, ...] = ()) -> str:
    """Run one test file in a pytest session inside this one; what it printed."""
    folder.mkdir(exist_ok=True)
    (folder / "pytest.ini").write_text("[pytest]\n")
    file = folder / f"test_run{next(_num_runs)}.py"  # a name that was never imported
    file.write_text(text)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        pytest.main(
            [
                *("-q", "--capture=no", "--tb=short", "--import-mode=importlib"),
                *("-p", "no:cacheprovider", "-p", "no:faulthandler", "-p", "no:logging"),
                *("-c", str(folder / "pytest.ini"), f"--rootdir={folder}"),
                *(f"--basetemp={folder / 'tmp'}", *args, str(file)),
            ],
            plugins=list(plugins),
        )
    return said.getvalue()


class _Watch:
    """A pytest plugin that writes down what came of each rule."""

    def __init__(self) -> None:
        self.failed: dict[str, dict[str, str]] = {}
        self.passed: dict[str, set[str]] = {}
        self.skipped: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cls, test = report.nodeid.split("::")[-2:]
        plugin, rule = cls.removeprefix("Test_"), test.split("[")[0]
        if report.failed:
            self.failed.setdefault(plugin, {})[rule] = report.longreprtext
        elif report.skipped:
            self.skipped.setdefault(plugin, {})[rule] = str(report.longrepr)
        elif report.when == "call":
            self.passed.setdefault(plugin, set()).add(rule)
