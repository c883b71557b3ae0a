"""One item of the corpus by its number: a plain story, or a chat of one to several turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recipe.corpus import asking, talk
from recipe.corpus.asking import Turn
from recipe.corpus.held_out import Draw
from recipe.corpus.skills import SKILLS, Skill, recall
from recipe.corpus.skills.knowledge import FREE

# Parts of a hundred.
TOLD, READ, SMALL_TALK = 20, 12, 6
_TRAINED: Mapping[str, tuple[Skill, int]] = {**SKILLS, **FREE}


def plain(seed: int, number: int, *, held: bool = False) -> dict[str, Any]:
    """A story to read, some with their title."""
    draw = Draw(f"{_side(held)}:story:{seed}:{number}", held=held)
    told = asking.story(draw)
    return {"text": f"{told.title}\n\n{told.text}" if draw.chance(0.5) else told.text}


def chat(seed: int, number: int, *, held: bool = False, reworded: bool = False) -> dict[str, Any]:
    """A chat to learn from: about a story, or a few small questions in a row."""
    draw = Draw(f"{_side(held)}:chat:{seed}:{number}", held=held, reworded=reworded)
    roll = draw.number(0, 99)
    if roll < TOLD:
        skill, turns = "story", asking.told_and_asked(draw)
    elif roll < TOLD + READ:
        skill, turns = "reading", asking.read_and_asked(draw, 1, 4)
    elif roll < TOLD + READ + SMALL_TALK:
        skill, turns = "talk", [_drawn(draw, talk.TALK)[1] for _ in range(draw.number(1, 2))]
    else:
        skill, turns = _mixed(draw)
    if skill != "talk" and draw.chance(0.06):
        turns = [talk.hello(draw), *turns]
    if skill != "talk" and draw.chance(0.06):
        turns = [*turns, draw.one((talk.thanks, talk.bye))(draw)]
    return {"messages": messages(turns, draw), "skill": skill}


def recalled(seed: int, number: int) -> dict[str, Any]:
    """A chat in which nearly every word of an answer stands before it: to learn looking back."""
    draw = Draw(f"train:recall:{seed}:{number}")
    if draw.chance(0.67):
        turns = recall.read_and_asked(draw, draw.number(3, 8))
    else:
        turns = [recall.roll_call(draw) for _ in range(2)]
    return {"messages": messages(turns, draw), "skill": "recall"}


def bound(seed: int, number: int) -> dict[str, Any]:
    """A chat about who has, is or lives what: to learn what belongs to a name."""
    draw = Draw(f"train:bound:{seed}:{number}")
    roll = draw.random.random()
    if roll < 0.3:
        turns = [recall.told_again(draw)]
    elif roll < 0.6:
        turns = recall.in_sentences(draw, draw.number(3, 8))
    else:
        turns = recall.read_and_asked(draw, draw.number(3, 8))
    return {"messages": messages(turns, draw), "skill": "recall"}


def questioned(seed: int, number: int) -> dict[str, Any]:
    """A story that the user tells, and nearly all that can be asked about it."""
    draw = Draw(f"train:questioned:{seed}:{number}")
    turns = asking.read_and_asked(draw, 6, 12)
    return {"messages": messages(turns, draw), "skill": "reading"}


def messages(turns: list[Turn], draw: Draw | None = None) -> list[dict[str, str]]:
    """Turns as a chat; with a draw, some are typed as people in a hurry type."""
    found = []
    for asked, answer in turns:
        said = _hasty(asked) if draw and draw.chance(0.15) else asked
        found += [{"role": "user", "content": said}, {"role": "assistant", "content": answer}]
    return found


def answered(answer: str) -> str:
    """An answer as the model gives it: with a full stop, but for what ends in a digit or letter."""
    bare = len(answer) == 1 or answer[-1].isdigit() or answer[-1].isupper() or answer[-1] in ".!?"
    return answer if bare else answer + "."


def _mixed(draw: Draw) -> tuple[str, list[Turn]]:
    names, turns = [], []
    for _ in range(draw.number(1, 4)):
        name, (question, answer) = _drawn(draw, _TRAINED)
        names.append(name)
        turns.append((question, answered(answer)))
    return names[0] if len(set(names)) == 1 else "mixed", turns


def _drawn(draw: Draw, skills: Mapping[str, tuple[Skill, int]]) -> tuple[str, Turn]:
    names = [name for name, (_, weight) in skills.items() for _ in range(weight)]
    name = draw.one(names)
    return name, skills[name][0](draw)


def _hasty(text: str) -> str:
    small = text[0].lower() + text[1:] if not text[:2].isupper() else text
    return small.rstrip("?.!") if small.rstrip("?.!") else small


def _side(held: bool) -> str:
    return "held" if held else "train"
