"""Small rules of English: articles, plurals, numbers in words, lists."""

from __future__ import annotations

from collections.abc import Sequence


def row(text: str) -> tuple[str, ...]:
    """The words of a text."""
    return tuple(text.split())


ONES = row(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen"
    " sixteen seventeen eighteen nineteen twenty"
)
IRREGULAR = {
    "mouse": "mice", "goose": "geese", "sheep": "sheep", "deer": "deer", "wolf": "wolves",
    "child": "children", "foot": "feet", "tooth": "teeth", "man": "men", "woman": "women",
    "leaf": "leaves", "knife": "knives", "fish": "fish", "loaf": "loaves", "shelf": "shelves",
}  # fmt: skip


def a(noun: str) -> str:
    """The noun with its article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    if noun in IRREGULAR:
        return IRREGULAR[noun]
    if noun.endswith(("s", "x", "ch", "sh")):
        return noun + "es"
    if noun.endswith("y") and noun[-2] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + "s"


def number(value: int) -> str:
    """A number up to 20 as a word."""
    return ONES[value]


def upper_first(text: str) -> str:
    return text[0].upper() + text[1:]


def title(text: str) -> str:
    """Capitals as in a title: small words inside it have none."""
    words = [word if word in ("a", "an", "of") else upper_first(word) for word in text.split(" ")]
    return " ".join(words)


def listed(words: Sequence[str]) -> str:
    """One, one and two, or one, two and three."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
