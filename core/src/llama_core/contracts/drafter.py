"""A drafter guesses the next tokens; the engine verifies them and keeps the exact distribution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from llama_core.contracts.spec import Spec


@dataclass(frozen=True, slots=True)
class DraftRequest:
    """One sequence that could use a guess."""

    sequence: int
    tokens: Sequence[int]  # prompt and output so far
    most: int


class Drafter(Protocol):
    """Owns whatever program and memory it guesses with."""

    def propose(self, requests: Sequence[DraftRequest]) -> Sequence[Sequence[int]]:
        """At most `most` tokens for each; none is an answer too."""

    def truncate(self, sequence: int, length: int) -> None:
        """Of this sequence only the first `length` tokens stand."""

    def release(self, sequence: int) -> None:
        """The sequence has ended."""


SPEC: Spec[Drafter] = Spec("drafter", Drafter, "llama_create_drafter")
