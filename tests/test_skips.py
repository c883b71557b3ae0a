"""The list of expected skips says what the sources say, no more and no less.

A pattern that fits no test would let nothing through and hide that; a reason that stands nowhere in
the list fails the run in CI on the first machine that needs it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from .rules import sources
from .running import imported

ROOT = Path(__file__).parents[1]
LIST = tomllib.loads((ROOT / "tests" / "expected_skips.toml").read_text("utf-8"))
PLACES = ["core/src/llama_core/testing", "core/tests", "marketplace/tests", "plugins", "tests"]


def reasons(code: str) -> Iterator[str]:
    """What a module gives as reasons to skip, `…` for what is only known when it runs."""
    for node in ast.walk(ast.parse(code)):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        given = [one.value for one in node.keywords if one.arg == "reason"]
        if node.func.attr == "skip" and ast.unparse(node.func).startswith("pytest"):
            given += node.args[:1]
        elif node.func.attr not in ("skipif", "importorskip"):
            continue
        for one in given:
            yield _text(one)


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    return "…"


FOUND = {
    reason: str(path.relative_to(ROOT))
    for place in PLACES
    for path in sources(ROOT / place)
    for reason in reasons(path.read_text("utf-8"))
}


def test_reasons_are_found_however_they_are_given() -> None:
    code = """
pytest.skip("one")
pytest.skip(f"two {x}")
mark = pytest.mark.skipif(a, reason="three")
pytest.importorskip("torch", reason="four")
other.skip("five")
"""
    assert list(reasons(code)) == ["one", "two …", "three", "four"]
    assert len(FOUND) > 20


@pytest.mark.parametrize("kind", ["skip", "fault"])
def test_every_entry_fits_a_reason_that_is_given(kind: str) -> None:
    for entry in LIST[kind]:
        assert any(re.search(entry["reason"], reason) for reason in FOUND), entry["reason"]
        assert entry["why"].endswith(".")


def test_every_reason_has_an_entry() -> None:
    patterns = [entry["reason"] for kind in ("skip", "fault") for entry in LIST[kind]]
    missing = {
        reason: where
        for reason, where in FOUND.items()
        if not any(re.search(pattern, reason) for pattern in patterns)
    }
    assert missing == {}, "write them into tests/expected_skips.toml, with why"


def test_what_is_expected_without_a_module_is_not_expected_beside_it(tmp_path: Path) -> None:
    list_ = tmp_path / "skips.toml"
    entry = '[[skip]]\nreason = "no {0}"\nwithout = "{0}"\n'
    list_.write_text(entry.format("pytest") + entry.format("no_such_module"))
    expected = imported(ROOT / "conftest.py").expected_skips(list_)
    assert [each.pattern for each in expected] == ["no no_such_module"]


def test_what_is_expected_is_known_by_the_reason_that_pytest_tells() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "core/tests/builtin/test_conformance.py"]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "CI": "true"}, capture_output=True, text=True
    )
    assert "it remembers nothing" in done.stdout
    assert done.returncode == 0, done.stdout[-3000:]
