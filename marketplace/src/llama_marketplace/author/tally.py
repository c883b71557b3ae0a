"""A plugin of pytest for the child: writes down what came of every rule and every other test.

Knows the suites only by the mark that llama-core leaves on a report.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llama_core.testing.pytest_plugin import MARK

REPORT = "LLAMA_MARKETPLACE_REPORT"  # the file to write
MOST_LETTERS = 2000  # of what a failure says

_suites: dict[tuple[str, str], dict[str, Any]] = {}
_tests: set[str] = set()
_failed: dict[str, str] = {}
_broken: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    about: Any = dict(report.user_properties).get(MARK)
    if about is None:
        _tests.add(report.nodeid)
        if report.failed:
            _failed[report.nodeid] = _words(report)
        return
    key = about["kind"], about["provides"]
    rule = str(about["rule"])
    suite = _suites.setdefault(
        key, {"rules": about["rules"], "seen": set(), "passed": set(), "failed": {}}
    )
    suite["seen"].add(rule)
    if report.failed:
        suite["failed"].setdefault(rule, _words(report))
    elif report.when == "call" and report.passed:
        suite["passed"].add(rule)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _broken.append(f"{report.nodeid}: {_words(report)}")


def pytest_sessionfinish() -> None:
    place = os.environ.get(REPORT)
    if place:
        Path(place).write_text(json.dumps(_facts()), "utf-8")


def _facts() -> dict[str, Any]:
    suites = []
    for (kind, name), suite in _suites.items():
        good = suite["passed"] - set(suite["failed"])
        skipped = sorted(suite["seen"] - suite["passed"] - set(suite["failed"]))
        told = {"kind": kind, "name": name, "rules": suite["rules"], "passed": len(good)}
        suites.append(
            {**told, "seen": sorted(suite["seen"]), "failed": suite["failed"], "skipped": skipped}
        )
    return {"suites": suites, "tests": len(_tests), "failed": _failed, "broken": _broken}


def _words(report: pytest.TestReport | pytest.CollectReport) -> str:
    text = report.longreprtext.strip()
    return text if len(text) <= MOST_LETTERS else "…" + text[-MOST_LETTERS:]
