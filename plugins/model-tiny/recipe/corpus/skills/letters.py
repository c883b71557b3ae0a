"""Spelling and letters. A word that is looked at letter by letter is written in capitals.

A tokenizer that gives each capital a token of its own shows the model the letters; in small
letters a word is one token, and its spelling can only be known by heart. Words are therefore
spelled in both, and only capitals are asked of words that were never trained on.
"""

from __future__ import annotations

from recipe.corpus import words
from recipe.corpus.grammar import number, row, upper_first
from recipe.corpus.held_out import Draw, Wordings

MORE = row(
    "sun moon tree house river road bread milk door window table chair hand foot head nose ear eye"
    " arm leg green blue winter summer spring autumn night day snow rain wind storm cloud leaf rock"
    " sand sea lake hill field wood wall roof floor bed cake soup salt honey jam egg cheese fish"
    " bird wing tail fur paw nest egg friend sister brother mother father baby king queen ship"
    " train car bus bike plane wheel street bridge market school game song dance word story page"
    " paper pen glass plate fork knife pot pan fire smoke light night dream sleep walk run jump"
    " swim sing play work help give take find lose hold open close big small long short fast slow"
    " warm cold happy sad brave kind soft hard high low old new good bad full empty clean dark"
    " bright sweet sour loud quiet early late first last north south east west gold silver iron"
    " glove coat shirt shoe sock belt dress plum peach lemon grape onion bean corn rice pea tea"
    " nut oak pine fern moss grass rose lily tulip daisy seed root stem thorn bush branch"
)
WORDS = tuple(
    dict.fromkeys(
        word
        for word in (*words.KINDS, *words.THINGS, *words.COLORS, *words.FOODS, *MORE)
        if 3 <= len(word) <= 8 and " " not in word
    )
)

SPELL = Wordings(
    ("Spell {word}.", "How do you spell {word}?", "Spell the word {word}.", "Can you spell {word}?",
     "Please spell {word}.", "How is {word} spelled?", "Spell {word} letter by letter."),
    ("Tell me how to spell {word}.", "What is the spelling of {word}?"),
)  # fmt: skip
REVERSE = Wordings(
    ("Spell {word} backwards.", "Reverse {word}.", "What is {word} backwards?",
     "Write {word} from back to front."),
    ("Turn {word} around, letter by letter.",),
)  # fmt: skip
FIRST = Wordings(
    ("What is the first letter of {word}?", "Which letter does {word} begin with?",
     "What letter does {word} start with?"),
    ("Tell me the first letter of {word}.",),
)  # fmt: skip
LAST = Wordings(
    ("What is the last letter of {word}?", "Which letter does {word} end with?",
     "What letter is at the end of {word}?"),
    ("Tell me the last letter of {word}.",),
)  # fmt: skip
HOW_MANY = Wordings(
    ("How many letters are in {word}?", "How many letters does {word} have?",
     "Count the letters in {word}."),
    ("Tell me how many letters {word} has.",),
)  # fmt: skip


def _word(draw: Draw) -> tuple[str, str]:
    """A word as it is asked, and its letters."""
    word = draw.kept(WORDS, "spelling")
    capitals = draw.held or draw.chance(0.7)
    return (word.upper() if capitals else word), word.upper()


def spelling(draw: Draw) -> tuple[str, str]:
    asked, letters = _word(draw)
    return draw.word(SPELL).format(word=asked), "-".join(letters)


def backwards(draw: Draw) -> tuple[str, str]:
    asked, letters = _word(draw)
    return draw.word(REVERSE).format(word=asked), "-".join(reversed(letters))


def first_letter(draw: Draw) -> tuple[str, str]:
    asked, letters = _word(draw)
    return draw.word(FIRST).format(word=asked), letters[0]


def last_letter(draw: Draw) -> tuple[str, str]:
    asked, letters = _word(draw)
    return draw.word(LAST).format(word=asked), letters[-1]


def letter_count(draw: Draw) -> tuple[str, str]:
    """Spelled first, for what is written down can be counted."""
    asked, letters = _word(draw)
    answer = f"{'-'.join(letters)}. {upper_first(number(len(letters)))}"
    return draw.word(HOW_MANY).format(word=asked), answer


SKILLS = {
    "spelling": (spelling, 10),
    "backwards": (backwards, 6),
    "first letter": (first_letter, 4),
    "last letter": (last_letter, 4),
    "letter count": (letter_count, 5),
}
