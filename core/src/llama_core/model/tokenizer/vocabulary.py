"""Vocabularies as files hold them, before they become a tokenizer: pieces, scores, kinds, rules.

SentencePiece models and GGUF metadata say the same things in different words. Both are read into a
`Vocabulary`; this module knows neither, nor the library that does the tokenizing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

from llama_core.errors import LlamaError


class TokenizerError(LlamaError):
    """A tokenizer's file is malformed, or is of a kind that is not read."""

    code = "tokenizer_invalid"


class Kind(IntEnum):
    """What a piece is; the numbers are those of both file formats."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """All a tokenizer is made from. `pieces` may repeat; the first of equal ones is meant."""

    model: Literal["spm", "unigram", "bpe"]
    pieces: Sequence[str]
    scores: Sequence[float] = ()
    kinds: Sequence[int] = ()
    merges: Sequence[str] = ()
    pre: str = "default"  # how byte-level BPE cuts text into words
    unknown: int | None = None
    bos: int | None = None
    eos: int | None = None
    add_bos: bool = False
    add_eos: bool = False
    prefix_space: bool = True
    squeeze_spaces: bool = False
    escape_spaces: bool = True
    byte_fallback: bool = True
    charsmap: bytes = b""

    def of_kind(self, *kinds: Kind) -> list[tuple[int, str]]:
        """The pieces of some kinds with their ids."""
        return [(i, self.pieces[i]) for i, kind in enumerate(self.kinds) if kind in kinds]

    def faults(self) -> list[str]:
        """What keeps it from being a tokenizer."""
        count = len(self.pieces)
        faults = []
        if count == 0:
            faults.append("the vocabulary is empty")
        for what, found in (("scores", self.scores), ("token types", self.kinds)):
            if found and len(found) != count:
                faults.append(f"{len(found)} {what} for {count} tokens")
        for what, index in (("unknown", self.unknown), ("bos", self.bos), ("eos", self.eos)):
            if index is not None and not 0 <= index < count:
                faults.append(f"the {what} token {index} is not among the {count} tokens")
        if self.model == "spm" and not self.scores:
            faults.append("it has no scores")
        return faults
