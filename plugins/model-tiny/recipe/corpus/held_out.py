"""What is never trained on, and the one place that decides it.

Membership is a digest of the item's own key: it depends on no seed, no order and no list of what
was drawn before. A generator asks through a `Draw`, which gives the trained share or the held-out
share and never both.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeVar

T = TypeVar("T")

# Parts of a hundred that are held out.
SHARES = {"+": 12, "-": 12, "*": 8, "spelling": 20, "plot": 10, "count": 15, "order": 15, "row": 10}


@lru_cache(maxsize=1 << 16)
def held_out(what: str, *key: object) -> bool:
    """Whether an item of this sort is kept for testing. `what` is one of SHARES."""
    digest = hashlib.sha256(":".join(map(str, (what, *key))).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 100 < SHARES[what]


def pair_held_out(sign: str, a: int, b: int) -> bool:
    """A sum is held out both ways round; a product only one, since nobody derives 7 x 8."""
    if max(a, b) > 20:
        return False
    if sign == "+":
        a, b = min(a, b), max(a, b)
    return held_out(sign, a, b) and not (sign == "*" and a == b)


class Wordings(NamedTuple):
    """Ways to say one thing. Those in `held` are only ever tested."""

    train: tuple[str, ...]
    held: tuple[str, ...] = ()


class Draw:
    """Chance for one item, and whether the item is for training or for testing.

    `held` draws numbers, words and story combinations from the held-out share; `reworded` draws
    wordings from theirs.
    """

    def __init__(self, seed: str, *, held: bool = False, reworded: bool = False) -> None:
        self.random = random.Random(seed)  # noqa: S311 - text, not secrets
        self.held, self.reworded = held, reworded

    def one(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def say(self, *options: str) -> str:
        return self.random.choice(options)

    def some(self, options: Sequence[T], count: int) -> list[T]:
        return self.random.sample(options, count)

    def number(self, low: int, high: int) -> int:
        return self.random.randint(low, high)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def word(self, wordings: Wordings) -> str:
        return self.one(wordings.held if self.reworded else wordings.train)

    def kept(self, options: Sequence[T], what: str) -> T:
        """One of those options that belong to this side of the split."""
        return self.one([each for each in options if held_out(what, each) == self.held])

    def until(self, what: str, make: Callable[[], T]) -> T:
        """What `make` gives as soon as it belongs to this side of the split."""
        while held_out(what, made := make()) != self.held:
            pass
        return made

    def pair(self, sign: str, low: int, high: int) -> tuple[int, int]:
        """Two numbers of this side of the split; `a - b` is never below nought."""
        while True:
            a, b = self.number(low, high), self.number(low, high)
            if sign == "-":
                a, b = max(a, b), min(a, b)
            if pair_held_out(sign, a, b) == self.held:
                return a, b
