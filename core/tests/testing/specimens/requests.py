"""Preprocessors, postprocessors and drafters."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.preprocessor import Prompt
from llama_core.errors import LlamaError
from specimens.harness import specimen

_count = itertools.count()


@specimen("preprocessor")
class Polite:
    """Adds a word to plain text, and refuses a request with nothing in it."""

    def __call__(self, prompt: Prompt) -> Any:
        if not prompt.text and not prompt.messages:
            raise LlamaError("there is nothing to answer")
        return replace(prompt, text=prompt.text and prompt.text + " Please.")


@specimen("preprocessor", "test_gives_a_prompt")
class GivesText(Polite):
    def __call__(self, prompt: Prompt) -> Any:
        return super().__call__(prompt).text


@specimen("preprocessor", "test_prompt_is_not_changed")
class EditsMessages(Polite):
    def __call__(self, prompt: Prompt) -> Any:
        for message in prompt.messages:
            message["seen"] = True  # type: ignore[index]
        return super().__call__(prompt)


@specimen("preprocessor", "test_is_deterministic")
class Numbers(Polite):
    def __call__(self, prompt: Prompt) -> Any:
        return replace(prompt, text=f"{next(_count)}")


@specimen("preprocessor", "test_odd_prompts_are_answered_or_refused")
class TrustsMessages(Polite):
    def __call__(self, prompt: Prompt) -> Any:
        for message in prompt.messages:
            len(message["content"])
        return super().__call__(prompt)


@specimen("postprocessor", expects={"STOP": "STOP", "ab STO": "ab STO", "a STOP b": "a "})
class StopsAt:
    """Ends the answer before " STOP", holding back what may become it."""

    stop = " STOP"

    def __init__(self) -> None:
        self.held = ""

    def feed(self, piece: Piece) -> Any:
        self.held += piece.text
        at = self.held.find(self.stop)
        if at >= 0:
            return [Piece(self.held[:at] + " ", stop=True)]
        keep = max(i for i in range(len(self.stop)) if self.stop[:i] == self.held[-i:] or i == 0)
        out, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        more = [replace(piece, text="")] if piece.data else []
        return [Piece(out), *more] if out else more

    def finish(self) -> Any:
        out, self.held = self.held, ""
        return [Piece(out)] if out else []


@specimen("postprocessor", "test_gives_lists_of_pieces")
class MayGiveNone(StopsAt):
    def feed(self, piece: Piece) -> Any:
        return tuple(super().feed(piece))

    def finish(self) -> Any:
        return tuple(super().finish())


@specimen("postprocessor", "test_any_split_gives_the_same_answer")
class LooksAtPieces(StopsAt):
    def feed(self, piece: Piece) -> Any:
        return super().feed(replace(piece, text=piece.text.replace("scattering", "light")))


@specimen("postprocessor", "test_gives_what_is_expected", expects={"ab STO": "ab STO"})
class LosesTheRest(StopsAt):
    def finish(self) -> Any:
        return []


@specimen("postprocessor", "test_an_empty_answer_is_an_answer")
class NeedsText(StopsAt):
    def feed(self, piece: Piece) -> Any:
        piece.text[0]
        return super().feed(piece)


_shared: dict[str, str] = {"held": ""}


@specimen("postprocessor", "test_requests_share_nothing")
class SharesItsText(StopsAt):
    @property
    def held(self) -> str:
        return _shared["held"]

    @held.setter
    def held(self, text: str) -> None:
        _shared["held"] = text


@specimen("postprocessor", "test_piece_is_not_changed")
class EditsData(StopsAt):
    def feed(self, piece: Piece) -> Any:
        if piece.data:
            piece.data["seen"] = True  # type: ignore[index]
        return super().feed(piece)


@specimen("postprocessor", "test_markers_are_texts")
class OneMarker(StopsAt):
    markers = "<tool_call>"


@specimen("drafter")
class Repeats:
    """Guesses that what followed the last token before follows it again."""

    def __init__(self) -> None:
        self.known: dict[int, int] = {}  # length by sequence

    def propose(self, requests: Any) -> Any:
        return [self.guess(request) for request in requests]

    def guess(self, request: Any) -> list[int]:
        tokens, last = list(request.tokens), request.tokens[-1]
        self.known[request.sequence] = len(tokens)
        for at in range(len(tokens) - 2, -1, -1):
            if tokens[at] == last:
                return tokens[at + 1 : at + 1 + request.most]
        return []

    def truncate(self, sequence: int, length: int) -> None:
        if sequence in self.known:
            self.known[sequence] = length

    def release(self, sequence: int) -> None:
        self.known.pop(sequence, None)


@specimen("drafter", "test_answers_every_request")
class AnswersTwo(Repeats):
    def propose(self, requests: Any) -> Any:
        found = super().propose(requests)
        return found[:2]


@specimen("drafter", "test_at_most_what_was_asked")
class GuessesMore(Repeats):
    def guess(self, request: Any) -> list[int]:
        return [*super().guess(request), 1]


@specimen("drafter", "test_guesses_are_tokens")
class GuessesStrangers(Repeats):
    def guess(self, request: Any) -> list[int]:
        return [token + 100 for token in super().guess(request)]


@specimen("drafter", "test_requests_are_not_changed")
class Reverses(Repeats):
    def guess(self, request: Any) -> list[int]:
        request.tokens.reverse()
        return []


@specimen("drafter", "test_short_sequences")
class NeedsTwo(Repeats):
    def guess(self, request: Any) -> list[int]:
        if len(request.tokens) == 2:
            raise IndexError("too short")
        return super().guess(request)


@specimen("drafter", "test_goes_on_after_truncate")
class OnlyGrows(Repeats):
    def guess(self, request: Any) -> list[int]:
        if len(request.tokens) < self.known.get(request.sequence, 0):
            raise RuntimeError("it became shorter")
        return super().guess(request)

    def truncate(self, sequence: int, length: int) -> None:
        pass


@specimen("drafter", "test_truncate_of_the_unknown")
class MustKnow(Repeats):
    def truncate(self, sequence: int, length: int) -> None:
        self.known[sequence] -= self.known[sequence] - length


@specimen("drafter", "test_release_is_idempotent")
class ReleasesOnce(Repeats):
    def release(self, sequence: int) -> None:
        del self.known[sequence]


@specimen("drafter", "test_a_number_can_come_again")
class Remembers(Repeats):
    def guess(self, request: Any) -> list[int]:
        found = super().guess(request)
        self.all = [*getattr(self, "all", []), found]
        return self.all[0] if len(request.tokens) == 4 else found
