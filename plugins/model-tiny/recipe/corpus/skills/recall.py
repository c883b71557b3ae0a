"""Short texts about who is, has and lives what, and questions that nothing but them answers.

A model learns from these to look back: to say words again in their order, and to find what belongs
to a name. A story's questions need both, over longer ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from recipe.corpus import words
from recipe.corpus.grammar import a, listed, upper_first
from recipe.corpus.held_out import Draw, Wordings


class Relation(NamedTuple):
    """What is said of somebody, how it is asked for, and how somebody is asked for by it."""

    said: str
    what: Wordings
    who: Wordings


RELATIONS = {
    "is": Relation(
        "{name} is {it}.",
        Wordings(("What is {name}?", "Who or what is {name}?"), ("Tell me what {name} is.",)),
        Wordings(("Who is {it}?", "What is the name of the {bare}?"), ("Tell me who is {it}.",)),
    ),
    "has": Relation(
        "{name} has {it}.",
        Wordings(("What does {name} have?", "What has {name} got?"), ("Which thing has {name}?",)),
        Wordings(("Who has {it}?", "Who has the {bare}?"), ("Tell me who has {it}.",)),
    ),
    "lives": Relation(
        "{name} lives {it}.",
        Wordings(("Where does {name} live?", "Where is the home of {name}?"),
                 ("In which place does {name} live?",)),
        Wordings(("Who lives {it}?",), ("Tell me who lives {it}.",)),
    ),
}  # fmt: skip
ASK = Wordings(
    ("{text} {question}", "{text}\n\n{question}", "Read this: {text} {question}"),
    ("I tell you this: {text} Now answer: {question}",),
)
Fact = tuple[str, str, str]  # relation, name, what
NAMES = words.HE_NAMES + words.SHE_NAMES


def read_and_asked(draw: Draw, count: int) -> list[tuple[str, str]]:
    """A text, and so many questions about it, where it has as many. Each has its answer."""
    facts = _told(draw, 4)
    asked = draw.some(facts, min(count, len(facts)))
    (first, answer), *rest = [_question(draw, *fact) for fact in asked]
    return [(draw.word(ASK).format(text=_said(facts), question=first), answer), *rest]


def in_sentences(draw: Draw, count: int) -> list[tuple[str, str]]:
    """The same, each answered in the text's own sentence."""
    facts = _told(draw, 5)
    asked = draw.some(facts, min(count, len(facts)))
    (first, answer), *rest = [(_question(draw, *fact)[0], _said([fact])) for fact in asked]
    return [(f"{_said(facts)} Answer in whole sentences. {first}", answer), *rest]


def told_again(draw: Draw) -> tuple[str, str]:
    """A text, and all that it says once more in another order: the second `Ada has a` knows."""
    people = _people(draw, 5)
    facts = _facts(draw, draw.one(list(RELATIONS)), people)
    request = draw.say("Tell me that again in another order.", "Say that in another order.")
    return f"{_said(facts)} {request}", _said(draw.some(facts, len(facts)))


def recall(draw: Draw) -> tuple[str, str]:
    return read_and_asked(draw, 1)[0]


def roll_call(draw: Draw) -> tuple[str, str]:
    """Names to be said again, as they stand."""
    people = draw.until("row", lambda: tuple(draw.some(NAMES, draw.number(3, 8))))
    said = draw.word(
        Wordings(
            ("Say these names: {names}.", "Repeat these names: {names}.", "Call {names}."),
            ("Tell me these names again: {names}.",),
        )
    )
    return said.format(names=listed(people)), listed(people) + "."


def _told(draw: Draw, most: int) -> list[Fact]:
    """All facts of a text about some people, mixed."""
    people = _people(draw, most)
    kinds = draw.some(list(RELATIONS), draw.number(1, 2))
    facts = [fact for kind in kinds for fact in _facts(draw, kind, people)]
    return draw.some(facts, len(facts))


def _people(draw: Draw, most: int) -> tuple[str, ...]:
    return draw.until("row", lambda: tuple(draw.some(NAMES, draw.number(2, most))))


def _said(facts: Iterable[Fact]) -> str:
    return " ".join(RELATIONS[kind].said.format(name=name, it=it) for kind, name, it in facts)


def _facts(draw: Draw, kind: str, people: tuple[str, ...]) -> list[Fact]:
    if kind == "is":
        its = [a(each) for each in draw.some(list(words.KINDS), len(people))]
    elif kind == "has":
        things = draw.some(words.THINGS, len(people))
        its = [a(f"{draw.one(words.COLORS)} {thing}") for thing in things]
    else:
        its = [each.phrase for each in draw.some(list(words.SETTINGS.values()), len(people))]
    return [(kind, name, it) for name, it in zip(people, its, strict=True)]


def _question(draw: Draw, kind: str, name: str, it: str) -> tuple[str, str]:
    relation = RELATIONS[kind]
    if draw.chance(0.5):
        return draw.word(relation.what).format(name=name), upper_first(it) + "."
    return draw.word(relation.who).format(it=it, bare=it.split(" ", 1)[1]), name + "."


SKILLS = {"recall": recall, "roll call": roll_call}
