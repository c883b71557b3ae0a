"""What the conformance suites need of pytest: a fixture, a header line and a closing summary.

Loaded by pytest in every environment that has llama-core, so it imports nothing at the top but
pytest itself; it knows the suites only by the marks they leave on a report.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from llama_core.plugins import Plugins

MARK = "llama_core"  # the user property that says which capability a report speaks of


@pytest.fixture(scope="session")
def llama_plugins() -> Plugins:
    """The plugins installed here under default settings: neither `llama.toml` nor environment.

    A plugin is never quarantined, so that one broken rule does not hide the next. Override this
    fixture to put other plugins to the test.
    """
    from llama_core.config import Config
    from llama_core.discovery import discover
    from llama_core.plugins import Plugins

    return Plugins(discover(), Config(max_faults=1_000_000_000))


def pytest_report_header() -> str:
    from llama_core import __version__

    return f"llama-core: {__version__}"


@pytest.hookimpl(tryfirst=True)  # before a fixture skips
def pytest_runtest_setup(item: pytest.Item) -> None:
    cls = getattr(item, "cls", None)
    about = getattr(cls, "__llama_contract__", None)
    if about is not None and item.name.split("[")[0] in about["rules"]:
        mark = {**about, "rules": len(about["rules"]), "rule": item.name.split("[")[0]}
        item.user_properties.append((MARK, mark))


@dataclass(slots=True)
class _Tally:
    """What came of the rules of one capability. A rule may be tried under several options."""

    num_rules: int
    seen: set[str] = field(default_factory=set)
    failed: dict[str, None] = field(default_factory=dict)
    passed: set[str] = field(default_factory=set)

    def add(self, rule: str, outcome: str) -> None:
        self.seen.add(rule)
        if outcome == "passed":
            self.passed.add(rule)
        elif outcome in ("failed", "error"):
            self.failed[rule] = None

    def line(self, what: str) -> str:
        if self.failed:
            rules = ", ".join(self.failed)
            return (
                f"does not conform: {what}: {len(self.failed)} of {self.num_rules} rules: {rules}"
            )
        if len(self.seen) < self.num_rules:
            return f"not all was tried: {what}: {len(self.seen)} of {self.num_rules} rules"
        skipped = len(self.seen - self.passed)
        more = f", {skipped} of them skipped" if skipped else ""
        return f"conforms: {what}: {self.num_rules} rules{more}"


def pytest_terminal_summary(terminalreporter: Any) -> None:
    tallies: dict[str, _Tally] = {}
    for outcome in ("passed", "failed", "error", "skipped"):
        for report in terminalreporter.stats.get(outcome, ()):
            about = dict(getattr(report, "user_properties", ())).get(MARK)
            if isinstance(about, Mapping):
                what = f"{about['kind']} '{about['provides']}' (contract {about['api']})"
                tally = tallies.setdefault(what, _Tally(about["rules"]))
                tally.add(about["rule"], outcome)
    if tallies:
        terminalreporter.section("llama-core contracts")
    for what, tally in tallies.items():
        good = not tally.failed and len(tally.seen) == tally.num_rules
        terminalreporter.write_line(tally.line(what), green=good, red=bool(tally.failed))
