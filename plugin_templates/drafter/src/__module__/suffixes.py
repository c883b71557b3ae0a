"""Guesses by the longest repeated end of a text, which a suffix automaton finds as the text grows.

Knows tokens only: no model, no engine.
"""

from __future__ import annotations

from collections.abc import Sequence

from llama_core.contracts.drafter import DraftRequest


class SuffixAutomaton:
    """All that occurs in a text, and the longest end of it that also occurs earlier."""

    def __init__(self) -> None:
        self.size = 0  # tokens read
        self.match = 0  # of the longest repeated end, its length
        self._state = 0  # and where it is in the automaton
        self._last = 0
        self._longest = [0]  # by state: the longest text that leads to it
        self._link = [-1]  # the state of the longest end of it that is in another state
        self._next: list[dict[int, int]] = [{}]
        self._end = [0]  # where its first occurrence ends

    @property
    def follows(self) -> int:
        """The place behind the earlier occurrence of the longest repeated end."""
        return self._end[self._state]

    def add(self, token: int) -> None:
        """The text goes on with this token."""
        while self._state > 0 and token not in self._next[self._state]:
            self._state = self._link[self._state]
            self.match = self._longest[self._state]
        if token in self._next[self._state]:
            self._state = self._next[self._state][token]
            self.match += 1
        self._extend(token)
        # A state may just have been split in two, and the match be in the shorter one.
        while self._state > 0 and self.match <= self._longest[self._link[self._state]]:
            self._state = self._link[self._state]

    def _extend(self, token: int) -> None:
        self.size += 1
        new = self._new(self.size, {}, self.size)
        state, self._last = self._last, new
        while state >= 0 and token not in self._next[state]:
            self._next[state][token] = new
            state = self._link[state]
        if state < 0:
            self._link[new] = 0
            return
        other = self._next[state][token]
        if self._longest[other] == self._longest[state] + 1:
            self._link[new] = other
            return
        copy = self._new(self._longest[state] + 1, dict(self._next[other]), self._end[other])
        self._link[copy], self._link[other], self._link[new] = self._link[other], copy, copy
        while state >= 0 and self._next[state].get(token) == other:
            self._next[state][token] = copy
            state = self._link[state]

    def _new(self, longest: int, following: dict[int, int], end: int) -> int:
        self._longest.append(longest)
        self._link.append(0)
        self._next.append(following)
        self._end.append(end)
        return len(self._longest) - 1


class SuffixDrafter:
    """One automaton for each sequence, which reads no guesses: a wrong one costs nothing."""

    def __init__(self, shortest: int = 2) -> None:
        self.shortest = shortest
        self._texts: dict[int, SuffixAutomaton] = {}

    def propose(self, requests: Sequence[DraftRequest]) -> list[list[int]]:
        return [self._guess(request) for request in requests]

    def truncate(self, sequence: int, length: int) -> None:
        """An automaton cannot forget: one that has read too much is made anew."""
        text = self._texts.get(sequence)
        if text is not None and text.size > length:
            del self._texts[sequence]

    def release(self, sequence: int) -> None:
        self._texts.pop(sequence, None)

    def _guess(self, request: DraftRequest) -> list[int]:
        self.truncate(request.sequence, len(request.tokens))
        text = self._texts.setdefault(request.sequence, SuffixAutomaton())
        for token in request.tokens[text.size :]:
            text.add(token)
        if text.match < self.shortest:
            return []
        return list(request.tokens[text.follows : text.follows + request.most])
