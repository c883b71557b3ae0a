"""What an author sees: the header, the closing summary, and which classes pytest collects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from specimens.harness import Outcomes, run_file

GREEDY = """
from llama_core.testing import *  # the suites themselves must not be collected

class TestGreedy(SamplerContract):
    provides = "{name}"
"""


def test_three_lines_certify_a_plugin(tmp_path: Path) -> None:
    output = run_file(tmp_path, GREEDY.format(name="greedy"), args=("-v",))
    assert "llama-core: 0." in output
    assert "conforms: sampler 'greedy' (contract 1): " in output
    assert "skipped" not in output
    assert "Contract::" not in output


def test_a_name_nobody_provides_is_one_failure_with_the_near_misses(tmp_path: Path) -> None:
    output = run_file(tmp_path, GREEDY.format(name="gredy"))
    assert "did you mean 'greedy'" in output.lower()
    assert "1 failed" in output
    assert "does not conform: sampler 'gredy' (contract 1): 1 of " in output


def test_a_suite_without_a_name_says_what_to_write(tmp_path: Path) -> None:
    output = run_file(tmp_path, GREEDY.format(name=""))
    assert 'provides = "NAME"' in output


def test_no_options_to_try_certify_nothing(tmp_path: Path) -> None:
    output = run_file(tmp_path, GREEDY.format(name="greedy") + "    options = []\n")
    assert "1 failed" in output
    assert "give [{}]" in output
    assert "does not conform: sampler 'greedy' (contract 1): 1 of " in output


def test_rules_left_out_are_not_certified(tmp_path: Path) -> None:
    output = run_file(tmp_path, GREEDY.format(name="greedy"), args=("-k", "deterministic"))
    assert "not all was tried: sampler 'greedy' (contract 1): 1 of " in output
    assert "conforms:" not in output


def test_a_rule_skipped_is_said(tmp_path: Path) -> None:
    text = GREEDY.format(name="greedy") + _SKIPPING
    output = run_file(tmp_path, text)
    assert "1 of them skipped" in output


_SKIPPING = """
    def test_token_is_in_range(self):
        import pytest
        pytest.skip("not here")
"""


def test_failures_name_the_rules(outcomes: Outcomes) -> None:
    lines = outcomes.output.splitlines()
    assert any(
        line.startswith("does not conform: transform 'it'") and "test_input_is_not_written" in line
        for line in lines
    )


def test_loading_the_plugin_costs_nothing() -> None:
    program = (
        "import sys, pytest, _pytest.assertion; before = set(sys.modules)\n"
        "import llama_core.testing.pytest_plugin\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert set(ran.stdout.split()) == {
        "llama_core",
        "llama_core.testing",
        "llama_core.testing.pytest_plugin",
    }
