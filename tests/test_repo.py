"""This repository keeps its own rules, and each rule is able to say no."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from . import rules

ROOT = Path(__file__).parents[1]
Rule = Callable[[Path], Iterator[str]]


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_the_repository_keeps_the_rule(rule: Rule) -> None:
    assert list(rule(ROOT)) == []


CORE = "core/src/llama_core"
PYPROJECT = '[project]\nname = "x"\n[project.entry-points.llama_core]\nx = "x"\n'

# rule -> a file that breaks it, and a word of the complaint
BROKEN: list[tuple[Rule, str, str, str]] = [
    (rules.layers_point_down, f"{CORE}/model/x.py", "import llama_core.engine", "engine is above"),
    (rules.layers_point_down, f"{CORE}/engine/x.py", "from llama_core import builtin", "manifest"),
    (rules.layers_point_down, f"{CORE}/model/x.py", "from ..engine import x", "engine is above"),
    (rules.layers_point_down, f"{CORE}/engine/x.py", "from .. import builtin", "manifest"),
    (rules.layers_point_down, f"{CORE}/errors.py", "import llama_core.config", "below everything"),
    (rules.layers_point_down, f"{CORE}/web/x.py", "import numpy", "only the errors"),
    (
        rules.layers_point_down,
        f"{CORE}/model/x.py",
        "if not TYPE_CHECKING:\n  import llama_core.cli",
        "cli is above",
    ),
    (
        rules.layers_point_down,
        f"{CORE}/x.py",
        "importlib.import_module('llama_core.engine')",
        "engine is above",
    ),
    (rules.scheduling_knows_no_arrays, f"{CORE}/engine/blocks.py", "import torch", "torch"),
    (rules.layers_point_down, f"{CORE}/web/x.py", "import llama_core.config", "only the errors"),
    (
        rules.layers_point_down,
        f"{CORE}/contracts/x.py",
        "import llama_core.events",
        "only the errors",
    ),
    (rules.layers_point_down, f"{CORE}/x.py", "def f():\n  import llama_core.cli", "cli is above"),
    (rules.core_imports_nothing_heavy, f"{CORE}/x.py", "def f():\n    import torch", "torch"),
    (rules.core_names_no_plugin, f"{CORE}/x.py", "'llama_plugin_one'", "names plugin one"),
    (rules.no_plugin_imports_another, "plugins/one/src/x.py", "import llama_plugin_two", "two"),
    (rules.only_the_kernel_knows_pluggy, f"{CORE}/cli/x.py", "import pluggy", "pluggy"),
    (
        rules.scheduling_knows_no_arrays,
        f"{CORE}/engine/scheduler.py",
        "import numpy as np",
        "numpy",
    ),
    (rules.hooks_are_documented, f"{CORE}/hookspecs.py", "def llama_x(): pass", "llama_x"),
    (rules.contracts_are_documented, f"{CORE}/contracts/x.py", "", "has no docstring"),
    (rules.contracts_are_documented, f"{CORE}/contracts/x.py", '"""x"""', "not in docs"),
    (rules.contracts_are_documented, f"{CORE}/contracts/x.py", "\n" * 100, "under 100 lines"),
    (
        rules.contracts_are_documented,
        f"{CORE}/contracts/x.py",
        "class X: pass",
        "X has no docstring",
    ),
    (rules.modules_say_what_they_are, f"{CORE}/x.py", "x = 1", "does not say"),
    (rules.modules_say_what_they_are, f"{CORE}/utils.py", '"""x"""', "says nothing"),
    (rules.distributions_are_whole, "plugins/two/pyproject.toml", PYPROJECT, "no contract test"),
    (rules.distributions_are_whole, "plugins/two/pyproject.toml", PYPROJECT, "no LICENSE"),
    (rules.nothing_of_one_machine, "docs/x.md", "see " + "/home/" + "me/x", "docs/x.md:1"),
]


@pytest.mark.parametrize(("rule", "file", "text", "complaint"), BROKEN)
def test_the_rule_is_able_to_say_no(
    rule: Rule, file: str, text: str, complaint: str, tmp_path: Path
) -> None:
    for needed in (f"{CORE}/hookspecs.py", "plugins/one/pyproject.toml"):
        (tmp_path / needed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / needed).write_text('"""."""\n' if needed.endswith("py") else "[project]\n")
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert any(complaint in fault for fault in rule(tmp_path)), list(rule(tmp_path))


def test_every_rule_was_seen_to_say_no() -> None:
    assert {rule for rule, *_ in BROKEN} == set(rules.RULES)


def test_imports_for_types_alone_do_not_count(tmp_path: Path) -> None:
    file = tmp_path / CORE / "model" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import llama_core.cli\n"
    )
    assert list(rules.layers_point_down(tmp_path)) == []


def test_sizes_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    sizes: dict[str, tuple[int, int]] = {}
    for folder in ("core/src", "core/tests", "plugins", "tests", "benchmarks", "examples"):
        for path in rules.sources(ROOT / folder):
            parts = path.relative_to(ROOT).parts
            name = "/".join(parts[:4] if folder == "core/src" else parts[:2])
            name = name if "." not in name else "/".join(parts[:3])
            files, lines = sizes.get(name, (0, 0))
            sizes[name] = files + 1, lines + len(path.read_text("utf-8").splitlines())
    with capsys.disabled():
        print("\nsizes:")
        for name, (files, lines) in sorted(sizes.items()):
            print(f"  {name:36} {files:4} files {lines:7,} lines")
    assert sizes["core/src/llama_core/contracts"][0] >= 19
