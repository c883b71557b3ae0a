"""The transforms that look at what was said already: penalties, biases and bans.

They know the tokens of one request, prompt and output, and compute from them anew each time, so
they have no state to roll back. Legend: N rows of the request in this step, V vocabulary, L tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llama_core.builtin.transforms import bounded
from llama_core.contracts.transform import SamplingContext
from llama_core.errors import OptionsError

Logits = NDArray[np.float32]
NEGATIVE_INFINITY = np.float32(-np.inf)


def history(context: SamplingContext, last: int = 0) -> list[int]:
    """Prompt and output as one list; only the end of it where `last` is not 0."""
    output = list(context.output[-last:] if last else context.output)
    missing = last - len(output)
    if last and missing <= 0:
        return output
    return [*(context.prompt[-missing:] if last else context.prompt), *output]


def token_ids(name: str, values: Sequence[int]) -> tuple[int, ...]:
    for token in values:
        if isinstance(token, bool) or not isinstance(token, int) or token < 0:
            raise OptionsError(f"{name} takes token ids from 0 up, not {token!r}")
    return tuple(values)


class Repetition:
    """Makes tokens of prompt and output less likely (Keskar et al. 2019)."""

    def __init__(self, penalty: float = 1.1, last: int = 0) -> None:
        self.penalty = np.float32(bounded("repetition's penalty", penalty, 0, 100, above=True))
        self.last = int(bounded("repetition's last", last, 0, np.inf))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        seen = np.unique(np.asarray(history(context, self.last), np.int64))
        seen = seen[seen < logits_NV.shape[-1]]
        changed_NV = logits_NV.copy()
        picked = logits_NV[:, seen]
        changed_NV[:, seen] = np.where(picked > 0, picked / self.penalty, picked * self.penalty)
        return changed_NV


class Presence:
    """Takes the same from every token that the output has already."""

    def __init__(self, penalty: float = 0.0) -> None:
        self.penalty = np.float32(bounded("presence's penalty", penalty, -100, 100))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        changed_NV = logits_NV.copy()
        changed_NV[:, np.unique(np.asarray(context.output, np.int64))] -= self.penalty
        return changed_NV


class Frequency:
    """Takes more from a token the more often the output has it."""

    def __init__(self, penalty: float = 0.0) -> None:
        self.penalty = np.float32(bounded("frequency's penalty", penalty, -100, 100))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        tokens, counts = np.unique(np.asarray(context.output, np.int64), return_counts=True)
        changed_NV = logits_NV.copy()
        changed_NV[:, tokens] -= self.penalty * counts.astype(np.float32)
        return changed_NV


class LogitBias:
    """Adds to the logits of single tokens; -100 or less forbids one."""

    def __init__(self, bias: Mapping[int | str, float]) -> None:
        try:
            self.bias = {int(token): np.float32(value) for token, value in bias.items()}
        except (TypeError, ValueError, AttributeError) as error:
            raise OptionsError(f"logit-bias maps token ids to numbers, unlike {bias!r}") from error
        token_ids("logit-bias", list(self.bias))
        if not all(np.isfinite(value) for value in self.bias.values()):
            raise OptionsError("logit-bias takes finite numbers; -100 forbids a token")

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        changed_NV = logits_NV.copy()
        for token, value in self.bias.items():
            if token >= logits_NV.shape[-1]:
                raise OptionsError(
                    f"logit-bias names token {token} of a vocabulary of {logits_NV.shape[-1]}"
                )
            changed_NV[:, token] += NEGATIVE_INFINITY if value <= -100 else value
        return changed_NV


class MinLength:
    """Forbids ending before the output has this many tokens."""

    def __init__(self, tokens: int = 1) -> None:
        self.tokens = int(bounded("min-length's tokens", tokens, 0, np.inf))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        if context.index >= self.tokens or not context.eos:
            return logits_NV
        changed_NV = logits_NV.copy()
        changed_NV[:, sorted(context.eos)] = NEGATIVE_INFINITY
        return changed_NV


class BadWords:
    """Forbids the token that would complete one of these words."""

    def __init__(self, words: Sequence[Sequence[int]]) -> None:
        self.words = [token_ids("bad-words", word) for word in words]
        if not all(self.words):
            raise OptionsError("bad-words cannot forbid a word without tokens")

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        longest = max((len(word) for word in self.words), default=0)
        said = tuple(history(context, longest))
        banned = [
            word[-1]
            for word in self.words
            if word[:-1] == said[len(said) - len(word) + 1 :] or len(word) == 1
        ]
        changed_NV = logits_NV.copy()
        changed_NV[:, [t for t in banned if t < logits_NV.shape[-1]]] = NEGATIVE_INFINITY
        return changed_NV


class NoRepeatNgram:
    """Forbids every n-gram of prompt and output to come twice."""

    def __init__(self, n: int = 3) -> None:
        self.n = int(bounded("no-repeat-ngram's n", n, 1, np.inf))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        said_L = np.asarray(history(context), np.int64)
        first = len(said_L) - self.n + 1  # where the unfinished n-gram begins
        if first <= 0:
            return logits_NV
        same = np.ones(first, bool)
        for i in range(self.n - 1):
            same &= said_L[i : i + first] == said_L[first + i]
        changed_NV = logits_NV.copy()
        changed_NV[:, said_L[np.flatnonzero(same) + self.n - 1]] = NEGATIVE_INFINITY
        return changed_NV


class DRY:
    """Don't repeat yourself: the longer a repetition a token would prolong, the more it costs.

    A token that would make the end of the text repeat `n >= allowed` tokens of before once more
    loses `multiplier * base ** (n - allowed)`. No repetition reaches across a breaker.
    """

    def __init__(
        self,
        multiplier: float = 0.8,
        base: float = 1.75,
        allowed: int = 2,
        breakers: Sequence[int] = (),
        last: int = 0,
    ) -> None:
        self.multiplier = bounded("dry's multiplier", multiplier, 0, 100)
        self.base = bounded("dry's base", base, 1, 100)
        self.allowed = int(bounded("dry's allowed", allowed, 1, np.inf))
        self.breakers = frozenset(token_ids("dry's breakers", breakers))
        self.last = int(bounded("dry's last", last, 0, np.inf))

    def __call__(self, logits_NV: Logits, context: SamplingContext) -> Logits:
        said = history(context, self.last)
        longest: dict[int, int] = {}
        for i, length in enumerate(self._matches(said)):
            if length >= self.allowed and said[i] not in self.breakers:
                longest[said[i]] = max(longest.get(said[i], 0), length)
        changed_NV = logits_NV.copy()
        for token, length in longest.items():
            # Past 2^120 a float32 overflows; no logit survives a tenth of that.
            power = min((length - self.allowed) * np.log(self.base), 80.0)
            changed_NV[:, token] -= np.float32(self.multiplier * np.exp(power))
        return changed_NV

    def _matches(self, said: list[int]) -> list[int]:
        """For each place, how many tokens before it equal those at the end of the text.

        The Z-algorithm on the text reversed: linear in its length, whatever it holds.
        """
        tokens = said[::-1]
        stop = next((i for i, t in enumerate(tokens) if t in self.breakers), len(tokens))
        z = [0] * (len(tokens) + 1)
        left = right = 0
        for i in range(1, len(tokens)):
            reach = min(right - i, z[i - left]) if i < right else 0
            while i + reach < len(tokens) and tokens[reach] == tokens[i + reach]:
                reach += 1
            z[i] = reach
            if i + reach > right:
                left, right = i, i + reach
        return [min(z[len(said) - i], stop) for i in range(len(said))]


TRANSFORMS: dict[str, type[Any]] = {
    "repetition": Repetition,
    "presence": Presence,
    "frequency": Frequency,
    "logit-bias": LogitBias,
    "min-length": MinLength,
    "bad-words": BadWords,
    "no-repeat-ngram": NoRepeatNgram,
    "dry": DRY,
}
