"""The programs of `examples/` with the model that ships: what they show makes sense."""

from __future__ import annotations

from .running import inside


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
