"""Tokens to text as they come: never half a character, never a lost space, constant time each.

What `push` and `finish` give, put together, is what `Tokenizer.decode` gives for the same tokens.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llama_core.model.tokenizer import Tokenizer
    from llama_core.model.tokenizer.pieces import Pieces

_LONGEST_TAIL = 8  # tokens; a character is at most four bytes, and each token at least one


class Detokenizer:
    """The text of one sequence. `after` are the tokens before the first that is pushed.

    A text that goes on keeps the space its first word begins with; a character begun by the last
    tokens of `after` comes out whole with the tokens that end it. `show` are the special tokens
    that are not skipped.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        after: Sequence[int] = (),
        *,
        skip_special: bool = True,
        show: Iterable[str] = (),
    ) -> None:
        skipped = tokenizer.special_ids if skip_special else frozenset()
        self._skipped = skipped.difference(map(tokenizer.token_to_id, show))
        pieces = tokenizer.pieces
        self._stream: _ByBytes | _ByLibrary
        if pieces is None:
            self._stream = _ByLibrary(tokenizer)
        else:
            self._stream = _ByBytes(pieces, starts=not after)
        for token in after[-_LONGEST_TAIL:]:
            self.push(token)

    def push(self, token: int) -> str:
        """The text that is certain now; often one token's, sometimes none or several tokens'."""
        return "" if token in self._skipped else self._stream.push(token)

    def finish(self) -> str:
        """What is left at the end: U+FFFD for a character that was never completed."""
        return self._stream.finish()

    def all(self, tokens: Iterable[int]) -> str:
        """Everything at once."""
        return "".join([*map(self.push, tokens), self.finish()])


class _ByBytes:
    def __init__(self, pieces: Pieces, *, starts: bool) -> None:
        self._pieces = pieces
        self._strip = pieces.strips and starts
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        text = self._decoder.decode(self._pieces[token])
        if self._strip and text:
            self._strip = False
            text = text[1:] if text[0] == " " else text
        return text

    def finish(self) -> str:
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text


class _ByLibrary:
    """For decoders that look at their neighbours: the library's own stream."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        from tokenizers.decoders import DecodeStream

        from llama_core.model.tokenizer.build import guarded

        self._guarded = guarded
        self._core = tokenizer.core
        self._stream = DecodeStream(skip_special_tokens=False)
        self._held: list[int] = []

    def push(self, token: int) -> str:
        text: str | None = self._guarded("cannot decode", self._stream.step, self._core, token)
        if text is None:
            self._held.append(token)
            return ""
        self._held.clear()
        return text

    def finish(self) -> str:
        held, self._held = self._held, []
        text: str = self._guarded(
            "cannot decode", self._core.decode, held, skip_special_tokens=False
        )
        return text
