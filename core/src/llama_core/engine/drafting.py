"""Keeps a drafter at arm's length: asks it, checks what it says, and lets it go when it fails.

It knows which sequences could use a guess. Whether a guess was right is for `verify.py`; a drafter
that fails costs speed and nothing else, and is named in `fault`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llama_core.contracts.drafter import SPEC, Drafter, DraftRequest
from llama_core.engine.answer import Answer
from llama_core.engine.sequence import Sequence as Stream
from llama_core.errors import LlamaError
from llama_core.isolation import explain, let_pass
from llama_core.plugins import Plugins


class Drafting:
    """The drafter of one engine, if it has one."""

    def __init__(self, drafter: Drafter | None, most: int, vocab_size: int) -> None:
        self.drafter = drafter
        self.most = most
        self.vocab_size = vocab_size
        self.name = "" if drafter is None else type(drafter).__name__
        self.owner: str | None = None  # the plugin; None: it is the application's own
        self.fault: str | None = None  # why the drafter was put out of use
        self._plugins: Plugins | None = None
        self.num_drafts = 0
        self.num_draft_tokens = 0
        self.num_accepted = 0

    def asked_for(self, plugins: Plugins, name: str) -> None:
        """The drafter was asked for by name: its faults are its plugin's, and users are told."""
        self._plugins, self.name = plugins, name
        self.owner = plugins.resolve(SPEC.kind, name).plugin.name

    def propose(
        self, running: Sequence[Stream], answers: Mapping[int, Answer]
    ) -> list[tuple[Answer, LlamaError]]:
        """Give the sequences that are about to decode their drafts; tell whose masks failed."""
        failed: list[tuple[Answer, LlamaError]] = []
        if self.drafter is None:
            return failed
        asked: list[DraftRequest] = []
        for stream in running:
            stream.drafts = ()
            most = min(self.most, answers[stream.id].limit - len(stream.tokens) - 1)
            if stream.num_uncomputed == 1 and len(stream.tokens) > stream.num_prompt and most > 0:
                asked.append(DraftRequest(stream.id, stream.tokens, most))
        if not asked:
            return failed
        try:
            guesses = self._guess(self.drafter, asked)
        except LlamaError as error:
            return [(answers[request.sequence], error) for request in asked]
        for request, guess in zip(asked, guesses, strict=False):
            answer = answers[request.sequence]
            try:
                count = answer.chain.plausible(guess, self.vocab_size)
            except LlamaError as error:
                failed.append((answer, error))
            else:
                answer.stream.drafts = tuple(guess[:count])
        return failed

    def verified(self, stream: Stream, num_drafts: int, num_accepted: int) -> None:
        """So many drafts of a sequence were right."""
        self.num_drafts += 1
        self.num_draft_tokens += num_drafts
        self.num_accepted += num_accepted
        if self.drafter is not None and num_accepted < num_drafts:
            try:
                self.drafter.truncate(stream.id, len(stream.tokens) - 1)
            except BaseException as error:  # noqa: BLE001  it is a plugin's
                self._blame(error)

    def release(self, stream: Stream) -> None:
        """The sequence has ended."""
        if self.drafter is not None:
            try:
                self.drafter.release(stream.id)
            except BaseException as error:  # noqa: BLE001  it is a plugin's
                self._blame(error, late=True)

    def _guess(self, drafter: Drafter, asked: Sequence[DraftRequest]) -> list[list[int]]:
        try:
            guesses = [[int(token) for token in guess] for guess in drafter.propose(asked)]
            if len(guesses) != len(asked):
                raise ValueError(f"it gave {len(guesses)} guesses for {len(asked)} sequences")
            for request, guess in zip(asked, guesses, strict=True):
                if len(guess) > request.most:
                    raise ValueError(f"it guessed {len(guess)} tokens where {request.most} may be")
                if not all(0 <= token < self.vocab_size for token in guess):
                    raise ValueError(f"it guessed {guess} in a vocabulary of {self.vocab_size}")
        except BaseException as error:  # noqa: BLE001  it is a plugin's
            self._blame(error)
            return []
        return guesses

    def _blame(self, error: BaseException, *, late: bool = False) -> None:
        """Go on without it, which is slower; raises where strict mode forbids that, unless the
        answer is whole and has no use for an error."""
        let_pass(error)
        why = explain(error)
        self.fault = f"drafter {self.name} failed: {why}"
        self.drafter = None
        if self._plugins is not None and self.owner is not None:
            self._plugins.fault(self.owner, f"drafter '{self.name}'", why, error)
            tell = self._plugins.announcements
            (tell.note if late else tell.fallback)(f"answers come without drafts: {self.fault}")
