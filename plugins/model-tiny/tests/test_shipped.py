"""The model that ships, as a user meets it: it talks without torch, as well as its card says."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from llama_plugin_model_tiny.plugin import FOLDER

from llama_core import Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params
from llama_core.engine.suite import ask, read_suite

SCORES = Path(__file__).parents[1] / "recipe" / "run" / "scores.json"
POINTS = 0.03  # what another machine's rounding may cost; a broken tokenizer or kernel costs more
WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None  # whoever imports it fails
from llama_core.cli import main
main()
"""


def llama(*arguments: str, stdin: str = "") -> str:
    """What a command prints, in a process that cannot have torch."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments],
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def tiny() -> Iterator[Loaded]:
    with load("tiny", plugins=Plugins.load()) as loaded:
        yield loaded


def test_it_tells_a_story_about_whom_one_asks_for() -> None:
    story = llama("chat", "tiny", "--prompt", "Tell me a story about a fox.").strip()
    assert "fox" in story.lower()
    assert 30 < len(story.split()) < 400
    assert story[-1] in '.!?"'


def test_it_answers_what_is_piped_to_it() -> None:
    assert llama("chat", "tiny", stdin="Tell me a story about a bear.\n").strip()


def test_it_continues_a_text() -> None:
    said = llama("run", "tiny", "Once upon a time there was", "--max-tokens", "24")
    assert len(said.split()) > 8


def test_its_name_is_listed() -> None:
    models = json.loads(llama("list", "--json"))["models"]
    assert [one["source"] for one in models if one["name"] == "tiny"] == ["model-tiny"]


def test_it_answers_as_its_card_says(tiny: Loaded) -> None:
    scores = json.loads(SCORES.read_text("utf-8"))
    sample = scores["sample"]
    questions = read_suite(FOLDER / "suites" / "skills.jsonl")[:: sample["every"]]
    assert len(questions) == sample["asked"]
    right = sum(reply.right for reply in ask(tiny, questions, Params(max_tokens=64)))
    assert right >= sample["right"] - POINTS * sample["asked"]


def test_its_card_has_the_scores_that_are_kept() -> None:
    card = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
    for one in json.loads(SCORES.read_text("utf-8"))["skills"]:
        assert f"| {one['name']} | {one['right']} of {one['asked']} | {one['share']:.1%} |" in card
