"""Stories: what was asked for is in them, and what is answered is what the text says."""

from __future__ import annotations

import re

import pytest
from recipe.corpus import words
from recipe.corpus.asking import story, told_and_asked
from recipe.corpus.grammar import ONES
from recipe.corpus.held_out import Draw
from recipe.corpus.plots import PLOTS
from recipe.corpus.questions import ASKED, questions
from recipe.corpus.world import Story, Wish

TALES = [story(Draw(f"tale:{number}")) for number in range(800)]
BY_PLOT = {plot: [each for each in TALES if each.plot == plot] for plot in PLOTS}


def sentences(tale: Story) -> str:
    return tale.text.replace("\n\n", " ")


@pytest.mark.parametrize("kind", words.KINDS)
def test_any_hero_can_be_asked_for(kind: str) -> None:
    for number in range(5):
        tale = story(Draw(f"{kind}:{number}"), Wish(kind))
        first = sentences(tale).split(".")[0]
        assert tale.hero.name in first
        assert re.search(rf"\b{kind}\b", first)


def test_a_name_a_place_and_a_thing_can_be_asked_for() -> None:
    for number in range(40):
        draw = Draw(f"wish:{number}")
        assert "Rosa" in story(draw, Wish("fox", name="Rosa")).text
        assert "on a windy hill" in story(draw, Wish("fox", setting="hill")).text
        assert "lamp" in story(draw, Wish("fox", thing="lamp")).text


def test_every_plot_is_told_and_long_enough_to_be_one() -> None:
    for plot, tales in BY_PLOT.items():
        assert tales, plot
        for tale in tales:
            assert 50 <= len(tale.text.split()) <= 170, tale.text


def test_everyone_in_a_story_has_a_name_of_their_own() -> None:
    for tale in TALES:
        assert tale.hero.name != tale.friend.name
        assert tale.hero.kind != tale.friend.kind


def test_pronouns_fit_the_names() -> None:
    """In a story of two who are both 'she', nobody is 'he', and the other way round."""
    for tale in TALES:
        if tale.hero.he == tale.friend.he:
            other = r"\b(he|him|his)\b" if tale.hero.he == "she" else r"\b(she|her)\b"
            assert not re.search(other, tale.text, re.IGNORECASE), tale.text


def test_articles_fit_and_no_sentence_is_broken() -> None:
    for tale in TALES:
        text = sentences(tale)
        assert not re.search(r"\ba [aeio]\w", text), text
        assert not re.search(r"\ban [^aeio]", text), text
        for part in re.split(r'(?<=[.])"? ', text):
            assert part.lstrip('"')[0].isupper(), (part, text)
            assert part.rstrip('"')[-1] in ".!?", (part, text)


def test_every_kind_of_question_is_asked_and_no_other() -> None:
    asked = {fact.kind for tale in TALES for fact in tale.facts}
    assert asked == set(ASKED) - {"order"}


# What a question of these kinds answers is not in the text word by word.
SAID_OTHERWISE = {
    "is_kind", "found_there", "did_win", "feeling_end", "tool", "why_best", "why_gave", "why_lost",
    "why_sad", "why_went", "wrong_with", "mended", "learned", "doing", "what_did", "brought",
}  # fmt: skip


def test_an_answer_is_in_the_text() -> None:
    for tale in TALES:
        text = re.sub(r"\b(an?|the) ", "", sentences(tale).lower())
        for fact in tale.facts:
            if fact.kind in SAID_OTHERWISE:
                continue
            answer = re.sub(r"\b(an?|the) ", "", fact.answer.lower()).rstrip(".")
            parts = answer.split(" the ") if " the " in answer else [answer]
            first = parts[0].removesuffix(f" {tale.hero.kind}").removesuffix(f" {tale.friend.kind}")
            assert first in text, (fact, tale.text)


def test_yes_and_no_follow_the_state() -> None:
    for tale in TALES:
        for fact in tale.facts:
            if fact.kind == "is_kind":
                true = re.fullmatch(rf"an? {tale.hero.kind}", fact.slots["a_kind"])
                assert fact.answer == ("Yes." if true else "No.")
            if fact.kind == "found_there":
                (right,) = (each.answer for each in tale.facts if each.kind == "found_where")
                same = right.rstrip(".").lower() == fact.slots["spot"]
                assert fact.answer == ("Yes." if same else "No.")


def test_what_is_left_is_what_was_found_less_what_was_given() -> None:
    for tale in BY_PLOT["shared"]:
        told = {fact.kind: fact.answer.rstrip(".").lower() for fact in tale.facts}
        found, gave, left = (
            ONES.index(told[f"how_many_{what}"]) for what in ("found", "gave", "left")
        )
        assert found - gave == left > 0
        counts = re.findall(rf"\b({'|'.join(ONES)}) (?:{'|'.join(words.FOODS)}|\w+s)\b", tale.text)
        assert [ONES.index(each) for each in counts[:3]] == [found, gave, left], tale.text


def test_what_happened_first_stands_first_among_the_events() -> None:
    for number, tale in enumerate(TALES):
        for question, answer in questions(Draw(f"order:{number}"), tale, 99):
            if found := re.fullmatch(r"What (?:happened|came) first: (.+), or (.+)\?", question):
                earlier = min(found.groups(), key=tale.events.index)
                assert answer.lower().rstrip(".") == earlier.lower()


def test_questions_follow_their_story_and_differ() -> None:
    for number in range(300):
        turns = told_and_asked(Draw(f"turns:{number}"))
        assert len({question for question, _ in turns}) == len(turns) <= 6
