"""The questions of the suite `skills`: held-out numbers, words and stories, each in two wordings.

A skill is asked in wordings that were trained and, as `SKILL, reworded`, in wordings that were not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from recipe.corpus import asking
from recipe.corpus.chats import answered, messages
from recipe.corpus.held_out import Draw
from recipe.corpus.questions import questions
from recipe.corpus.skills import RECALL, SKILLS, Skill

# `plurals` and their like have no held-out part of their own: their facts are learned by heart, and
# only the wording is new.
BY_HEART = {"opposites", "rhymes", "plurals", "colors", "sounds", "yes or no", "calendar", "recite"}

ASKED: dict[str, Skill] = {name: skill for name, (skill, _) in SKILLS.items()} | RECALL


def questions_of_suite(seed: int, each: int) -> Iterator[dict[str, Any]]:
    """So many questions a skill and wording, none twice."""
    for reworded in (False, True):
        for name in ("story questions", *ASKED):
            if not (name in BY_HEART and not reworded):
                yield from _asked(name, seed, each, reworded)


def _asked(name: str, seed: int, each: int, reworded: bool) -> Iterator[dict[str, Any]]:
    seen: set[str] = set()
    label = f"{name}, reworded" if reworded else name
    # A skill may have fewer questions than were asked for: it ends when nothing new comes.
    for number in range(each * 20):
        draw = Draw(f"suite:{label}:{seed}:{number}", held=True, reworded=reworded)
        if name == "story questions":
            turns = _story_turns(draw)
        else:
            question, answer = ASKED[name](draw)
            turns = [(question, answered(answer))]
        asked, answer = messages(turns)[:-1], turns[-1][1]
        if (key := str(asked)) not in seen:
            seen.add(key)
            yield {"skill": label, "messages": asked, "answer": answer}
        if len(seen) == each:
            return


def _story_turns(draw: Draw) -> list[tuple[str, str]]:
    """One question about a story that the model is shown as told by itself, or by the user."""
    if draw.chance(0.3):
        told = asking.story(draw)
        ((question, answer),) = questions(draw, told, 1)
        frame = draw.word(asking.HERE)
        return [(frame.format(story=told.text, question=question), answer)]
    wish, hero = asking.wished(draw)
    told = asking.story(draw, wish)
    ((question, answer),) = questions(draw, told, 1)
    return [(draw.word(asking.ABOUT).format(hero=hero), told.text), (question, answer)]
