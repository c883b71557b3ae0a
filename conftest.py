"""What holds for every test of the repository: skips are accounted for, and time is shown.

In CI a test that skips for a reason nobody wrote down in `tests/expected_skips.toml` fails the run:
what was expected to run must not vanish.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent
EXPECTED = ROOT / "tests" / "expected_skips.toml"
BUDGET_SECONDS = {
    "core/tests": 240,
    "marketplace": 60,
    "plugins": 240,
    "tests": 300,
}  # printed, not enforced


class Account:
    """The skips and seconds of one run."""

    def __init__(self, expected: list[re.Pattern[str]]) -> None:
        self.expected = expected
        self.seconds: dict[str, float] = defaultdict(float)
        self.unexpected: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = next((each for each in BUDGET_SECONDS if report.nodeid.startswith(each)), "other")
        self.seconds[folder] += report.duration
        if not hasattr(report, "wasxfail"):
            self._account(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._account(report)  # a module that skips itself has no tests to report

    def _account(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else "no reason"
            reason = reason.removeprefix("Skipped: ")
            if not any(each.search(reason) for each in self.expected):
                self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for folder, seconds in sorted(self.seconds.items()):
            budget = BUDGET_SECONDS.get(folder)
            of = f" of {budget} s" if budget else ""
            terminalreporter.write_line(f"time: {folder} took {seconds:.0f} s{of}")
        for each in self.unexpected:
            terminalreporter.write_line(f"skipped, and not expected to: {each}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if (
            self.unexpected
            and os.environ.get("CI", "").lower() in ("1", "true")
            and session.exitstatus == pytest.ExitCode.OK
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


def expected_skips(file: Path = EXPECTED) -> Iterator[re.Pattern[str]]:
    """The reasons written down, as patterns; what is expected `without` a module, without it."""
    if file.is_file():
        for each in tomllib.loads(file.read_text("utf-8"))["skip"]:
            if "without" not in each or find_spec(each["without"]) is None:
                yield re.compile(each["reason"])


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(Account(list(expected_skips())), "account-of-skips-and-seconds")
