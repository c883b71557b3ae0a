"""The rules of what stands around one request: pre- and postprocessors, and drafters."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from llama_core.contracts.drafter import DraftRequest
from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.preprocessor import Prompt
from llama_core.errors import LlamaError
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check

PROMPTS = (
    Prompt(text="The capital of France is"),
    Prompt(
        messages=(
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": [{"type": "text", "text": "Why is the sky blue?"}]},
        ),
        tools=({"type": "function", "function": {"name": "look_up", "parameters": {}}},),
        metadata={"user": "someone"},
    ),
)
ODD_PROMPTS = (
    Prompt(),
    Prompt(text=""),
    Prompt(text="\x00\ud7ff\U0001f600 " * 3),
    Prompt(messages=({"role": "user", "content": None},)),
    Prompt(messages=({},)),
)
TEXTS = (
    "The sky is blue because of Rayleigh scattering.\n\nIt is red at dusk.",
    'First <think>let me see</think> then {"a": [1, 2]} and <tool_call>{}</tool_call>, the end',
    "Grüße, 世界 👋🏽! ``` code ``` ### stop </s> more",
    "a",
)


class PreprocessorContract(FreshObjects, PluginContract):
    """What a preprocessor must keep to. `prompts` are tried beside the usual ones."""

    kind = "preprocessor"
    prompts: ClassVar[Sequence[Prompt]] = PROMPTS

    def test_gives_a_prompt(self, make: Make) -> None:
        """An ordinary prompt gives a Prompt to go on with."""
        for prompt in self.prompts:
            found = make()(copy.deepcopy(prompt))
            check(
                isinstance(found, Prompt),
                f"it gave a {type(found).__name__}. Give a Prompt, the same one where nothing is "
                "to be changed, or raise a LlamaError to refuse the request.",
            )

    def test_prompt_is_not_changed(self, make: Make) -> None:
        """The prompt it was given is as it was, down to the messages."""
        for prompt in self.prompts:
            given = copy.deepcopy(prompt)
            make()(given)
            check(
                given == prompt,
                "it changed the prompt it was given. Give a new one: dataclasses.replace(prompt, "
                "messages=[...]).",
            )

    def test_is_deterministic(self, make: Make) -> None:
        """The same prompt gives the same answer, whoever asked before."""
        first = [make()(copy.deepcopy(prompt)) for prompt in self.prompts]
        again = [make()(copy.deepcopy(prompt)) for prompt in self.prompts]
        check(first == again, "the same prompt gave two answers. Keep nothing between requests.")

    def test_odd_prompts_are_answered_or_refused(self, make: Make) -> None:
        """An empty or malformed prompt gives a Prompt or a LlamaError, and nothing else."""
        for prompt in ODD_PROMPTS:
            try:
                make()(copy.deepcopy(prompt))
            except LlamaError:
                pass
            except Exception as error:  # noqa: BLE001 - any other error is the finding
                what = f"{type(error).__name__}: {error}"
                check(False, f"{prompt} made it raise {what}. Refuse it with a LlamaError.")


class PostprocessorContract(FreshObjects, PluginContract):
    """What a postprocessor must keep to.

    `texts` are answers to feed it; `expects` are answers and what must come out for each, on all
    channels together.
    """

    kind = "postprocessor"
    texts: ClassVar[Sequence[str]] = TEXTS
    expects: ClassVar[Mapping[str, str]] = {}

    def test_gives_lists_of_pieces(self, make: Make) -> None:
        """`feed` and `finish` give lists of Piece."""
        for text in self._all():
            one = make()
            for name, found in (("feed", one.feed(Piece(text))), ("finish", one.finish())):
                check(
                    isinstance(found, list) and all(isinstance(each, Piece) for each in found),
                    f"{name}() gave {found!r}. Give a list of Piece, [] where there is nothing.",
                )

    def test_any_split_gives_the_same_answer(self, make: Make) -> None:
        """However the answer is cut into pieces, the same comes out in the end."""
        for text in self._all():
            whole = answer(make(), [text])
            for pieces in splits(text):
                found = answer(make(), pieces)
                check(
                    found == whole,
                    f"fed as {pieces} it gives {found}, and fed at once {whole}. Hold back what "
                    "may still become something, and pass it on when that is decided.",
                )

    def test_gives_what_is_expected(self, make: Make) -> None:
        """For the answers in `expects`, everything comes out that must, held back or not."""
        if not self.expects:
            pytest.skip("set `expects` to answers and what must come out for each")
        for text, expected in self.expects.items():
            for pieces in ([text], list(text)):
                found = "".join(part for _, part in answer(make(), pieces)["text"])
                check(
                    found == expected,
                    f"{text!r} gave {found!r} and should give {expected!r}. Is something held "
                    "back that finish() does not pass on?",
                )

    def test_an_empty_answer_is_an_answer(self, make: Make) -> None:
        """It can finish without having been fed, and be fed a piece without text."""
        make().finish()
        one = make()
        one.feed(Piece())
        one.feed(Piece(channel="tool_call", data={"name": "look_up"}))
        one.finish()

    def test_requests_share_nothing(self, make: Make) -> None:
        """Two requests fed in turns get what each would get alone."""
        texts = (*self._all(), *self._all())[:2]
        alone = [answer(make(), list(text)) for text in texts]
        both = [make(), make()]
        out: list[list[Piece]] = [[], []]
        for i in range(max(map(len, texts))):
            for one, text, pieces in zip(both, texts, out, strict=True):
                if i < len(text) and not any(piece.stop for piece in pieces):
                    pieces += one.feed(Piece(text[i]))
        for one, pieces in zip(both, out, strict=True):
            pieces += [] if any(piece.stop for piece in pieces) else one.finish()
        check(
            [joined(pieces) for pieces in out] == alone,
            "two requests disturb each other. Keep everything in the object, nothing in the "
            "module or the class.",
        )

    def test_piece_is_not_changed(self, make: Make) -> None:
        """The data of a piece it was given is as it was."""
        data = {"name": "look_up", "arguments": {"of": ["sky"]}}
        given = Piece("x", data=copy.deepcopy(data))
        one = make()
        one.feed(given)
        one.finish()
        check(given.data == data, "it changed piece.data. Give a new Piece with a new mapping.")

    def test_markers_are_texts(self, make: Make) -> None:
        """`markers`, where there are any, are the texts of special tokens."""
        markers = getattr(make(), "markers", ())
        check(
            not isinstance(markers, str)
            and all(isinstance(each, str) and each for each in markers),
            f"markers is {markers!r}. Give a tuple of texts, as in ('<tool_call>',).",
        )

    def _all(self) -> tuple[str, ...]:
        return (*self.expects, *self.texts)


def answer(one: Any, pieces: Iterable[str]) -> dict[str, Any]:
    """Feed a whole answer, up to a piece that stops it; what came out."""
    out: list[Piece] = []
    for text in pieces:
        out += one.feed(Piece(text))
        if any(piece.stop for piece in out):
            break
    else:
        out += one.finish()
    return joined(out)


def joined(pieces: Iterable[Piece]) -> dict[str, Any]:
    """An answer in a form that does not depend on where it was cut, up to a stop."""
    text: list[tuple[str, str]] = []
    data, stopped = [], False
    for piece in pieces:
        if text and text[-1][0] == piece.channel:
            text[-1] = (piece.channel, text[-1][1] + piece.text)
        elif piece.text:
            text.append((piece.channel, piece.text))
        data += [dict(piece.data)] if piece.data else []
        stopped = piece.stop
        if stopped:
            break
    return {"text": text, "data": data, "stopped": stopped}


def splits(text: str) -> list[list[str]]:
    """Several ways to cut a text: by character, in halves everywhere, and at random."""
    dice = random.Random(1)  # noqa: S311 - tests repeat themselves
    found = [list(text), *([text[:i], text[i:]] for i in range(1, len(text)))]
    for _ in range(5):
        cuts = sorted({0, len(text), *(dice.randrange(len(text) + 1) for _ in range(6))})
        found.append([text[a:b] for a, b in pairwise(cuts)])
    return found


class DrafterContract(FreshObjects, PluginContract):
    """What a drafter must keep to. The engine verifies guesses, so they may be as bad as they like.

    `vocab_size` bounds the tokens it is shown and may guess.
    """

    kind = "drafter"
    vocab_size: ClassVar[int] = 32

    def test_answers_every_request(self, make: Make) -> None:
        """There is one list of tokens for each request, in their order, and none for none."""
        one = make()
        for num in (0, 1, 3):
            found = one.propose([self._request(i, 8) for i in range(num)])
            check(
                len(found) == num,
                f"{num} requests got {len(found)} answers. Give one each, [] too.",
            )

    def test_at_most_what_was_asked(self, make: Make) -> None:
        """No guess is longer than `most`, which may be 0."""
        for most in (0, 1, 4):
            for guess in make().propose([self._request(i, 12, most) for i in range(3)]):
                check(
                    len(guess) <= most, f"{len(guess)} tokens, at most {most} wanted: guess[:most]."
                )

    def test_guesses_are_tokens(self, make: Make) -> None:
        """Every guess is an integer in the vocabulary."""
        for guess in make().propose([self._request(i, 12) for i in range(3)]):
            for token in guess:
                check(
                    0 <= int(token) < self.vocab_size and int(token) == token,
                    f"it guessed {token!r}, and the vocabulary is 0 to {self.vocab_size - 1}.",
                )

    def test_requests_are_not_changed(self, make: Make) -> None:
        """The tokens it is shown are as they were."""
        given = self._request(0, 12)
        before = list(given.tokens)
        make().propose([given])
        check(list(given.tokens) == before, "it changed the tokens it was shown. Copy them first.")

    def test_short_sequences(self, make: Make) -> None:
        """It works on a sequence of one token, and on one that grows by one at a time."""
        one = make()
        for length in range(1, 6):
            one.propose([self._request(0, length)])

    def test_goes_on_after_truncate(self, make: Make) -> None:
        """After `truncate` it goes on from fewer tokens, whatever it had drafted before."""
        one = make()
        one.propose([self._request(0, 12)])
        for length in (7, 7, 1):
            one.truncate(0, length)
            found = one.propose([self._request(0, length)])
            check(len(found) == 1, f"no answer after truncate(0, {length}).")

    def test_truncate_of_the_unknown(self, make: Make) -> None:
        """`truncate` of a sequence it was never asked about does nothing."""
        make().truncate(99, 3)

    def test_release_is_idempotent(self, make: Make) -> None:
        """`release` may come twice, and for a sequence it was never asked about."""
        one = make()
        one.propose([self._request(0, 8)])
        for sequence in (0, 0, 99):
            one.release(sequence)

    def test_a_number_can_come_again(self, make: Make) -> None:
        """After `release` the number may belong to a new, shorter sequence."""
        one, fresh = make(), make()
        one.propose([self._request(0, 12)])
        one.release(0)
        again, first = one.propose([self._request(0, 4)]), fresh.propose([self._request(0, 4)])
        check(
            list(map(list, again)) == list(map(list, first)),
            "a new sequence gets other guesses than in a new drafter. Forget all of a sequence "
            "in release().",
        )

    def _request(self, sequence: int, length: int, most: int = 4) -> DraftRequest:
        period = 3 + sequence  # repeats itself, so that a drafter has something to find
        tokens = [(sequence + i % period) % self.vocab_size for i in range(length)]
        return DraftRequest(sequence, tokens, most)
