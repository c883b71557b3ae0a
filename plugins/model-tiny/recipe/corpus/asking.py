"""Stories asked for in chats, and questions about them."""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import a
from recipe.corpus.held_out import Draw, Wordings, held_out
from recipe.corpus.plots import PLOTS
from recipe.corpus.questions import questions
from recipe.corpus.world import Story, Wish, cast

Turn = tuple[str, str]

ABOUT = Wordings(
    (
        "Tell me a story about {hero}.",
        "Tell me a short story about {hero}.",
        "Tell a story about {hero}.",
        "Please tell me a story about {hero}.",
        "Can you tell me a story about {hero}?",
        "Write a story about {hero}.",
        "Write a short story about {hero}.",
        "I want a story about {hero}.",
        "A story about {hero}, please.",
        "Do you know a story about {hero}?",
        "Make up a story about {hero}.",
        "Once more: a story about {hero}.",
    ),
    (
        "I would love to hear a story about {hero}.",
        "How about a little story with {hero} in it?",
        "Could I have a story about {hero}?",
    ),
)
ANY = Wordings(
    (
        "Tell me a story.",
        "Tell me a short story, please.",
        "Can you tell me a story?",
        "A story, please.",
        "I want to hear a story.",
        "Write a story.",
        "Do you know a story?",
        "Another story, please.",
    ),
    ("I would love to hear a story.", "How about a little story?"),
)
HERE = Wordings(
    (
        "Here is a story. {story}\n\n{question}",
        "Read this: {story}\n\n{question}",
        "{story}\n\n{question}",
        "Listen to this story. {story}\n\nNow answer: {question}",
    ),
    ("I read a story today. {story}\n\n{question}", "Story: {story}\n\nQuestion: {question}"),
)


def story(draw: Draw, wish: Wish | None = None) -> Story:
    """A story of this side of the split. A hero and a plot belong together to one side."""
    wish = wish or Wish()
    kinds = [wish.kind] if wish.kind else list(words.KINDS)
    sets = [(kind, plot) for kind in kinds for plot in _plots(draw, kind, wish.thing)]
    kind, plot = draw.one(sets)
    told = cast(draw, wish, kind, plot)
    PLOTS[plot](told)
    return told


def _plots(draw: Draw, kind: str, thing: str | None = None) -> list[str]:
    """The plots of this side of the split for a hero, where the thing can play its part."""
    return [
        plot
        for plot in PLOTS
        if held_out("plot", kind, plot) == draw.held
        and (thing is None or thing in words.PLOT_THINGS.get(plot, ()))
    ]


def wished(draw: Draw) -> tuple[Wish, str]:
    """What somebody may want in a story, and how they say it."""
    kind = draw.one([each for each in words.KINDS if _plots(draw, each)])
    roll = draw.random.random()
    if roll < 0.55:
        return Wish(kind), a(kind)
    if roll < 0.7:
        names = () if kind in words.SHE else words.HE_NAMES
        name = draw.one(names + (() if kind in words.HE else words.SHE_NAMES))
        return Wish(kind, name), draw.say(f"{a(kind)} named {name}", f"{a(kind)} called {name}")
    things = [each for each in words.THINGS if _plots(draw, kind, each)]
    if roll < 0.85 and things:
        thing = draw.one(things)
        return Wish(kind, thing=thing), draw.say(
            f"{a(kind)} and {a(thing)}", f"{a(kind)} with {a(thing)}"
        )
    setting = draw.one(words.KINDS[kind])
    return Wish(kind, setting=setting), f"{a(kind)} {words.SETTINGS[setting].phrase}"


def told_and_asked(draw: Draw) -> list[Turn]:
    """A story asked for and told, then some questions about it."""
    if draw.chance(0.8):
        wish, hero = wished(draw)
        request = draw.word(ABOUT).format(hero=hero)
    else:
        wish, request = Wish(), draw.word(ANY)
    told = story(draw, wish)
    turns = [(request, told.text)]
    return turns + questions(draw, told, draw.number(1, 5))


def read_and_asked(draw: Draw, least: int, most: int) -> list[Turn]:
    """The user's own story, then questions about it, as far as there are so many."""
    told = story(draw)
    (first, answer), *rest = questions(draw, told, draw.number(least, most))
    return [(draw.word(HERE).format(story=told.text, question=first), answer), *rest]
