"""What the wheel carries: a model that is whole or says what it lacks, small, with its suite."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llama_plugin_model_tiny.plugin import FOLDER, NEEDED, ModelIncomplete, Tiny

from llama_core import Config, Plugins
from llama_core.discovery import discover
from llama_core.engine.finding import find_model
from llama_core.engine.suite import read_suite

MOST_BYTES = 32 * 1000 * 1000


def test_a_folder_that_is_not_whole_says_what_it_lacks(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(
        ModelIncomplete, match=r"has no model\.safetensors, tokenizer\.json"
    ) as told:
        Tiny(tmp_path).path()
    assert "recipe/README.md" in str(told.value.remedy)


def test_a_whole_folder_is_where_it_is(tmp_path: Path) -> None:
    for name in NEEDED:
        (tmp_path / name).touch()
    assert Tiny(tmp_path).path() == tmp_path


def test_the_name_finds_the_folder() -> None:
    assert find_model(Plugins(discover(), Config()), "tiny").path == FOLDER


def test_the_model_stays_small() -> None:
    weights = sum(path.stat().st_size for path in FOLDER.glob("*.safetensors"))
    assert weights <= MOST_BYTES


def test_the_suite_is_the_one_that_the_recipe_makes() -> None:
    from recipe.corpus.__main__ import SUITE_EACH, SUITE_SEED
    from recipe.corpus.suite import questions_of_suite

    file = FOLDER / "suites" / "skills.jsonl"
    shipped = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    assert shipped == list(questions_of_suite(SUITE_SEED, SUITE_EACH))


def test_the_core_reads_the_suite() -> None:
    skills = {question.skill for question in read_suite(FOLDER / "suites" / "skills.jsonl")}
    assert {"addition", "subtraction", "story questions", "spelling, reworded"} <= skills
