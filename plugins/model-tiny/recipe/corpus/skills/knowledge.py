"""Small instructions and facts of the little world: days, opposites, plurals, rhymes, lists."""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import a, listed, number, plural, upper_first
from recipe.corpus.held_out import Draw, Wordings

OPPOSITES = (
    "big small,hot cold,up down,day night,happy sad,fast slow,loud quiet,old new,full empty,"
    "high low,long short,open closed,hard soft,light dark,good bad,early late,near far,dry wet,"
    "strong weak,rich poor,thick thin,clean dirty,left right,in out,first last,sweet sour,"
    "brave afraid,true false,begin end,give take"
)
PAIRS = tuple(tuple(pair.split()) for pair in OPPOSITES.split(","))
RHYMES = (
    "cat hat bat,ring king sing,fox box,mouse house,bell well,boat goat coat,moon spoon,"
    "tree bee sea,star car jar,night light,ball wall tall,bear pear chair,dog log frog,"
    "rain train,cake lake snake,sock clock rock,nose rose,bed red,hen pen,day play,"
    "song long,sun bun run,cook book,seed weed,top mop"
)
FAMILIES = tuple(tuple(family.split()) for family in RHYMES.split(","))
RHYME_OF = {
    family[i]: family[(i + 1) % len(family)] for family in FAMILIES for i in range(len(family))
}
COLOR_OF = {
    "grass": "green", "the sky": "blue", "snow": "white", "the sun": "yellow", "a raven": "black",
    "a strawberry": "red", "a carrot": "orange", "milk": "white", "coal": "black",
    "a frog": "green",
    "a lemon": "yellow", "a tomato": "red", "a plum": "purple", "a bear": "brown",
    "the night": "black", "a pig": "pink", "a mouse": "gray", "a cherry": "red",
}  # fmt: skip
SOUNDS = {
    "cow": "moo", "dog": "woof", "cat": "meow", "duck": "quack", "sheep": "baa", "pig": "oink",
    "owl": "hoo", "hen": "cluck", "bee": "buzz", "horse": "neigh", "frog": "croak", "lion": "roar",
    "mouse": "squeak", "wolf": "howl", "raven": "caw", "goose": "honk",
}  # fmt: skip
TRAITS = {  # what each can and has; "no" is drawn from those of another
    "fly": {"owl", "duck", "goose", "raven", "robin", "bee", "bat", "parrot"},
    "swim": {"frog", "duck", "goose", "otter", "beaver", "seal", "crab", "penguin", "turtle"},
    "lay eggs": {"hen", "duck", "goose", "owl", "robin", "turtle", "frog", "penguin", "parrot"},
    "give milk": {"cow", "goat", "sheep"},
}
CANNOT = {
    "fly": {"cow", "pig", "mouse", "fox", "bear", "snail", "horse", "sheep", "mole", "frog"},
    "swim": {"snail", "mole", "bee", "robin", "parrot"},
    "lay eggs": {"cow", "dog", "cat", "fox", "bear", "pig", "horse", "sheep", "mouse"},
    "give milk": {"hen", "owl", "frog", "bee", "snail", "duck", "crab"},
}
GROUPS = {
    "animals": tuple(k for k in words.KINDS if k not in words.HE | words.SHE)[:40],
    "colors": words.COLORS,
    "fruits": ("apple", "pear", "plum", "cherry", "fig", "melon", "peach", "lemon", "grape"),
    "days": words.DAYS,
    "months": words.MONTHS,
}


def _ask(draw: Draw, *wordings: str, **slots: str) -> str:
    """The last wording is only ever tested."""
    return draw.word(Wordings(wordings[:-1], wordings[-1:])).format(**slots)


def opposite(draw: Draw) -> tuple[str, str]:
    one, other = draw.some(draw.one(PAIRS), 2)
    question = _ask(draw, "What is the opposite of {one}?", "Opposite of {one}?",
                    "Tell me the opposite of {one}.", "Which word is the opposite of {one}?",
                    "Say the opposite of the word {one}.", one=one)  # fmt: skip
    return question, upper_first(other)


def rhyme(draw: Draw) -> tuple[str, str]:
    word = draw.one(list(RHYME_OF))
    question = _ask(draw, "What rhymes with {word}?", "Tell me a word that rhymes with {word}.",
                    "Which word rhymes with {word}?", "A rhyme for {word}, please.",
                    "Give me a word that rhymes with {word}.", word=word)  # fmt: skip
    return question, upper_first(RHYME_OF[word])


def plurals(draw: Draw) -> tuple[str, str]:
    word = draw.one((*words.KINDS, *words.THINGS, *words.FOODS, "leaf", "foot", "tooth", "child"))
    question = _ask(draw, "What is the plural of {word}?", "One {word}, two what?",
                    "Plural of {word}?", "Say the plural of {word}.",
                    "There is one {word}. Now there are two. Two what?", word=word)  # fmt: skip
    return question, upper_first(words.FOODS.get(word) or plural(word))


def color(draw: Draw) -> tuple[str, str]:
    what = draw.one(list(COLOR_OF))
    question = _ask(
        draw,
        "What color is {what}?",
        "Which color does {what} have?",
        "Tell me the color of {what}.",
        "Name the color of {what}.",
        what=what,
    )
    return question, upper_first(COLOR_OF[what])


def sound(draw: Draw) -> tuple[str, str]:
    kind = draw.one(list(SOUNDS))
    question = _ask(
        draw,
        "What does {kind} say?",
        "What sound does {kind} make?",
        "How does {kind} sound?",
        "Which sound comes from {kind}?",
        kind=a(kind),
    )
    return question, upper_first(SOUNDS[kind])


def yes_or_no(draw: Draw) -> tuple[str, str]:
    trait, truth = draw.one(list(TRAITS)), draw.chance(0.5)
    kind = draw.one(sorted((TRAITS if truth else CANNOT)[trait]))
    question = _ask(
        draw,
        "Can {kind} {trait}?",
        "Is {kind} able to {trait}?",
        "Is it true that {kind} can {trait}?",
        kind=a(kind),
        trait=trait,
    )
    return question, "Yes" if truth else "No"


def calendar(draw: Draw) -> tuple[str, str]:
    names = draw.one((words.DAYS, words.MONTHS))
    place, after = draw.number(0, len(names) - 1), draw.chance(0.6)
    what = "day" if names is words.DAYS else "month"
    side = "after" if after else "before"
    question = _ask(draw, "What comes {side} {name}?", "Which {what} comes {side} {name}?",
                    "What {what} is {side} {name}?", "Tell me the {what} {side} {name}.",
                    side=side, name=names[place], what=what)  # fmt: skip
    return question, names[(place + (1 if after else -1)) % len(names)]


def recite(draw: Draw) -> tuple[str, str]:
    if draw.chance(0.5):
        names, what = words.DAYS, "days of the week"
    else:
        names, what = words.MONTHS, "months of the year"
    question = _ask(draw, "Name the {what}.", "What are the {what}?", "Say the {what}.",
                    "Tell me the {what} in order.", what=what)  # fmt: skip
    return question, listed(names)


def repeat(draw: Draw) -> tuple[str, str]:
    def said_so() -> str:
        kind, thing = draw.one(list(words.KINDS)), draw.one(words.THINGS)
        return draw.say(f"The {draw.one(words.TRAITS)} {kind} has {a(thing)}",
                        f"I see {a(kind)} with {a(thing)}", f"{a(thing)} and {a(kind)}",
                        f"{draw.one(words.COLORS)} {thing}",
                        " ".join(draw.some(words.THINGS, draw.number(2, 4))))  # fmt: skip

    said = upper_first(draw.until("row", said_so))
    question = _ask(
        draw,
        "Repeat: {said}.",
        "Say this: {said}.",
        "Repeat after me: {said}.",
        "Say after me: {said}.",
        said=said,
    )
    return question, said


def pick(draw: Draw) -> tuple[str, str]:
    """Which of several words does not, or does, belong."""

    def drawn() -> tuple[str, ...]:
        group, other = draw.some([each for each in GROUPS if each not in ("days", "months")], 2)
        stranger = draw.one([each for each in GROUPS[other] if each not in GROUPS[group]])
        family = draw.some([each for each in GROUPS[group] if each not in GROUPS[other]], 3)
        return stranger, *sorted(family)

    row = draw.until("row", drawn)
    question = _ask(draw, "Which does not belong: {row}?", "Which word is the odd one out: {row}?",
                    "Find the odd one out: {row}.", "Which of these is different: {row}?",
                    row=", ".join(draw.some(row, 4)))  # fmt: skip
    return question, upper_first(row[0])


# ---------------------------------------------------------------- many right answers: not asked in
# the evaluation


def some_of(draw: Draw) -> tuple[str, str]:
    group, count = draw.one(list(GROUPS)), draw.number(2, 5)
    question = _ask(draw, "Name {n} {group}.", "List {n} {group}.", "Tell me {n} {group}.",
                    "Can you name {n} {group}?", "Give me {n} {group}.",
                    n=draw.say(number(count), str(count)), group=group)  # fmt: skip
    return question, upper_first(listed(draw.some(GROUPS[group], count)))


def sentence(draw: Draw) -> tuple[str, str]:
    kind, thing, trait = draw.one(list(words.KINDS)), draw.one(words.THINGS), draw.one(words.TRAITS)
    word = draw.one((kind, thing))
    place = draw.one(draw.one(list(words.SETTINGS.values())).spots)
    said = draw.say(f"The {trait} {kind} has {a(thing)}", f"{a(kind)} found {a(thing)} {place}",
                    f"The {kind} put the {thing} {place}", f"There is {a(thing)} {place}"
                    if word == thing else f"There is {a(kind)} {place}")  # fmt: skip
    question = _ask(draw, "Say a sentence with the word {word}.", "Use {word} in a sentence.",
                    "Write a sentence with {word}.", "Make a sentence with {word}.",
                    "Give me a sentence with the word {word} in it.", word=word)  # fmt: skip
    return question, upper_first(said)


SKILLS = {
    "opposites": (opposite, 5),
    "rhymes": (rhyme, 4),
    "plurals": (plurals, 4),
    "colors": (color, 3),
    "sounds": (sound, 2),
    "yes or no": (yes_or_no, 4),
    "calendar": (calendar, 5),
    "recite": (recite, 2),
    "repeat": (repeat, 5),
    "odd one out": (pick, 4),
}
FREE = {"lists": (some_of, 4), "sentences": (sentence, 5)}
