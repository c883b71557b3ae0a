"""The programs of `examples/` with the model that ships: what they show makes sense."""

from __future__ import annotations

import pytest

from .running import ROOT, inside

pytestmark = pytest.mark.skipif(
    not (ROOT / "plugins/model-tiny/recipe/run/scores.json").is_file(),
    reason="the bundled model has not been trained yet",
)


def test_a_conversation_tells_the_story_that_one_asks_for() -> None:
    asked = "Tell me a story about a fox.\nThank you!\n"
    said = inside("conversation", "tiny", "--temperature", 0, stdin=asked)
    _, story, thanks, *_ = said.split("> ")
    assert "fox" in story.lower()
    assert len(story.split()) > 30
    assert thanks.strip()


def test_a_text_goes_on() -> None:
    begin = "Once upon a time there was"
    said = inside("generation", "tiny", begin, "--max-tokens", 24)
    assert said.startswith(begin)
    assert len(said.split()) > 12
