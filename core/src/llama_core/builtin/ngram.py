"""A drafter without a model: what followed the last tokens when they were last seen.

Good for code, quotations and summaries, and nearly free elsewhere. It indexes the n-grams of each
sequence as the sequence grows; it owns no program.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.contracts.drafter import DraftRequest
from llama_core.errors import OptionsError


class _Index:
    """Where each n-gram of one sequence was followed by something, the latest place of each."""

    __slots__ = ("length", "places")

    def __init__(self) -> None:
        self.length = 0  # tokens indexed
        self.places: dict[tuple[int, ...], int] = {}


class NgramLookup:
    """Prefers the longest n-gram, from `longest` down to `shortest` tokens."""

    def __init__(self, longest: int = 4, shortest: int = 2) -> None:
        if not 1 <= shortest <= longest <= 16:
            raise OptionsError(
                f"ngram needs 1 <= shortest <= longest <= 16, not {shortest} and {longest}"
            )
        self.longest = longest
        self.shortest = shortest
        self._indexes: dict[int, _Index] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[list[int]]:
        return [self._one(request) for request in requests]

    def truncate(self, sequence: int, length: int) -> None:
        """Guesses are never indexed, so there is nothing to forget."""

    def release(self, sequence: int) -> None:
        self._indexes.pop(sequence, None)

    def _one(self, request: DraftRequest) -> list[int]:
        tokens = request.tokens
        index = self._indexes.setdefault(request.sequence, _Index())
        # An n-gram is indexed once its successor is known: the last one only looks, and is not yet
        # there to be found.
        for end in range(max(index.length, 1), len(tokens)):
            for n in range(self.shortest, min(self.longest, end) + 1):
                index.places[tuple(tokens[end - n : end])] = end
        index.length = len(tokens)
        for n in range(min(self.longest, len(tokens)), self.shortest - 1, -1):
            place = index.places.get(tuple(tokens[len(tokens) - n :]))
            if place is not None:
                return list(tokens[place : place + request.most])
        return []
