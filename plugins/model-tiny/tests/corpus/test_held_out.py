"""Nothing that is tested was trained on: a sample of the corpus is searched for all of it.

The searches read the text that a trainer would get, and share nothing with the generator's own
bookkeeping but the rule that says what is held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product

import pytest
from recipe.corpus.asking import story
from recipe.corpus.chats import bound, chat, plain, questioned, recalled
from recipe.corpus.grammar import ONES
from recipe.corpus.held_out import SHARES, Draw, Wordings, held_out, pair_held_out
from recipe.corpus.plots import PLOTS
from recipe.corpus.skills import recall
from recipe.corpus.skills.letters import WORDS
from recipe.corpus.suite import questions_of_suite
from recipe.corpus.words import KINDS

CHATS = [
    *(chat(1, number)["messages"] for number in range(6000)),
    *(recalled(1, number)["messages"] for number in range(2000)),
    *(bound(1, number)["messages"] for number in range(2000)),
    *(questioned(1, number)["messages"] for number in range(2000)),
]
STORIES = [plain(1, number)["text"] for number in range(1500)]
SUITE = list(questions_of_suite(1, 100))
HELD_WORDS = {word for word in WORDS if held_out("spelling", word)}


def said(role: str) -> Iterator[str]:
    return (each["content"] for chat in CHATS for each in chat if each["role"] == role)


def bare(text: str) -> str:
    """As typed by anyone: without capitals and stops, digits and letters alone."""
    return re.sub(r"[^a-z0-9+*-]+", " ", text.lower()).strip()


def test_no_question_of_the_suite_was_trained_on() -> None:
    """Neither as it stands, nor in another hand, at any turn of a chat."""
    trained = set()
    for messages in CHATS:
        for end in range(1, len(messages), 2):
            for start in range(0, end, 2):
                trained.add(tuple(bare(each["content"]) for each in messages[start:end]))
    assert len(trained) > 8000
    for question in SUITE:
        asked = tuple(bare(each["content"]) for each in question["messages"])
        assert asked not in trained, question


def test_no_pair_of_numbers_of_the_suite_was_trained_on() -> None:
    answers = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
    pairs = {m.groups()[:3] for text in said("assistant") if (m := answers.fullmatch(text))}
    assert len(pairs) > 1000
    assert not [p for p in pairs if pair_held_out(p[1], int(p[0]), int(p[2]))]
    for question in SUITE:
        if question["skill"].startswith(("addition", "subtraction", "products", "sums")):
            asked = answers.fullmatch(question["answer"])
            assert asked is not None
            assert asked.groups()[:3] not in pairs
            # A sum is held out both ways round.
            swapped = asked.groups()[2::-1]
            assert asked[2] == "*" or asked[2] == "-" or swapped not in pairs


def test_no_other_text_says_a_pair_that_is_held_out() -> None:
    """A sum may also hide in a question without its answer in digits, or in a story."""
    number = r"(\d+|" + "|".join(ONES) + r")"
    forms = {
        "+": rf"\b{number} ?(?:\+|plus) ?{number}\b",
        "-": rf"\b{number} ?(?:-|minus|less|take away) ?{number}\b",
        "*": rf"\b{number} ?(?:\*|x|times) ?{number}\b",
    }
    found = 0
    for text in [*said("user"), *said("assistant"), *STORIES]:
        for sign, form in forms.items():
            for pair in re.findall(form, text.lower()):
                a, b = (int(each) if each.isdigit() else ONES.index(each) for each in pair)
                found += 1
                assert not pair_held_out(sign, a, b), text
    assert found > 3000


def test_no_story_to_train_on_takes_away_a_pair_that_is_held_out() -> None:
    number = "|".join(ONES)
    for text in [*STORIES, *said("assistant")]:
        if found := re.search(rf"found ({number}) (\w+) .*\b({number}) left", text, re.DOTALL):
            had, left = ONES.index(found[1]), ONES.index(found[3])
            assert not pair_held_out("-", had, had - left), text


def test_no_word_that_is_to_be_spelled_was_spelled() -> None:
    for text in said("user"):
        for word in re.findall(r"\b[A-Z]{3,}\b", text):
            assert word.lower() not in HELD_WORDS, text
    turns = [
        (chat[at]["content"], chat[at + 1]["content"])
        for chat in CHATS
        for at in range(0, len(chat), 2)
    ]
    spelled = [turn for turn in turns if re.match(r"[A-Z](-[A-Z])+", turn[1])]
    assert len(spelled) > 300
    for question, _ in spelled:
        assert not HELD_WORDS & set(re.findall(r"[a-z]+", question.lower()))
    for question in SUITE:
        if question["skill"].split(",")[0] in ("spelling", "backwards", "letter count"):
            word = re.findall(r"\b[A-Z]{3,}\b", question["messages"][0]["content"])
            assert [each for each in word if each.lower() in HELD_WORDS]


def test_a_hero_meets_no_plot_that_is_held_out() -> None:
    """Heard at the source: each story that training asks for, and each that the suite asks for."""
    for held in (False, True):
        for number in range(1500):
            told = story(Draw(f"search:{number}", held=held))
            assert held_out("plot", told.hero.kind, told.plot) == held
    for plot in PLOTS:
        assert any(not held_out("plot", kind, plot) for kind in KINDS), plot
    for kind in KINDS:
        assert any(not held_out("plot", kind, plot) for plot in PLOTS), kind


def test_held_out_stories_are_told_nowhere_in_training() -> None:
    trained = {bare(text) for text in [*STORIES, *said("assistant")]}
    for number in range(300):
        assert bare(plain(1, number, held=True)["text"]) not in trained


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Every wording that is drawn from here on."""
    seen: set[str] = set()
    real = Draw.word

    def word(draw: Draw, wordings: Wordings) -> str:
        seen.add(chosen := real(draw, wordings))
        return chosen

    monkeypatch.setattr(Draw, "word", word)
    return seen


def test_wordings_of_the_reworded_suite_are_never_trained_on(drawn: set[str]) -> None:
    for number in range(3000):
        chat(2, number)
        recalled(2, number)
        bound(2, number)
        questioned(2, number)
    trained = set(drawn)
    drawn.clear()
    for number in range(1500):
        draw = Draw(f"reworded:{number}", held=True, reworded=True)
        chat(2, number, held=True, reworded=True)
        recall.recall(draw)
        recall.roll_call(draw)
    assert len(drawn) > 115
    assert not drawn & trained
    users = {bare(text) for text in said("user")}
    for question in SUITE:
        if question["skill"].endswith("reworded"):
            assert bare(question["messages"][-1]["content"]) not in users, question


@pytest.mark.parametrize("what", SHARES)
def test_a_share_is_about_what_it_says(what: str) -> None:
    share = sum(held_out(what, number) for number in range(5000)) / 5000
    assert share == pytest.approx(SHARES[what] / 100, abs=0.02)


def test_what_is_held_out_stays_so() -> None:
    """The rule must not move: a model was trained under it."""
    pairs = list(product(range(21), repeat=2))
    assert sum(pair_held_out("+", a, b) for a, b in pairs) == 44
    assert sum(pair_held_out("-", a, b) for a, b in pairs if a >= b) == 26
    assert sum(pair_held_out("*", a, b) for a, b in product(range(11), repeat=2)) == 10
    assert len(HELD_WORDS) == 55
    assert sum(held_out("plot", kind, plot) for kind in KINDS for plot in PLOTS) == 89
