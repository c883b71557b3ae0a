"""What a step gives back, and what it leaves for the next: wanted rows, sampled tokens, NaN notes.

Shared by both kinds of program. What a device computes is fetched when the step's result is asked
for, so that several steps can be under way.

Legend: T rows of the step, R rows that give something, V vocabulary, D hidden size.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from llama_core.announce import Announcements
from llama_core.contracts.step import Batch, Output, Want
from llama_core.model import programs

Array = NDArray[Any]


@dataclass(slots=True, eq=False)
class Sampled:
    """What the rows of the last step sampled, kept where it was computed."""

    device: torch.device
    rows_T: Array = field(default_factory=lambda: np.zeros(0, bool))  # which sampled at all
    tokens_T: Tensor | None = None

    def put_in(self, tokens_T: Array, previous_T: Array | None) -> Tensor:
        """The step's tokens on the device, those that the last step sampled put in."""
        tokens = torch.from_numpy(tokens_T.astype(np.int64)).to(self.device)
        if previous_T is None:
            return tokens
        rows, last = programs.continued(previous_T, self.rows_T)
        if not len(rows):
            return tokens
        assert self.tokens_T is not None, "rows that sampled left their tokens"
        index = torch.from_numpy(last.astype(np.int64)).to(self.device)
        tokens[torch.from_numpy(rows).to(self.device)] = self.tokens_T[index]
        return tokens

    def keep(self, rows: Array, tokens_R: Tensor | None, num_rows: int) -> None:
        self.rows_T = np.zeros(num_rows, bool)
        self.rows_T[rows] = True
        self.tokens_T = None
        if tokens_R is not None:
            self.tokens_T = torch.zeros(num_rows, dtype=torch.int64, device=self.device)
            # What goes on from a row of NaN is dropped, but has to be computed on some token.
            self.tokens_T[torch.from_numpy(rows).to(self.device)] = tokens_R.clamp(min=0)


class Answer:
    """A step under way. Rows of `logits_RV` and `hidden_RD` are those that want anything."""

    def __init__(
        self,
        batch: Batch,
        logits_RV: Tensor | None,
        hidden_RD: Tensor | None,
        sampled: Sampled,
        announcements: Announcements,
    ) -> None:
        self._batch = batch
        self._announcements = announcements
        self._rows_R = np.flatnonzero(batch.want_T != Want.NOTHING)
        self._want_R = batch.want_T[self._rows_R]
        self._logits = self._pick(logits_RV, Want.LOGITS)
        self._hidden = self._pick(hidden_RD, Want.HIDDEN)
        self._tokens = self._finite = None
        if logits_RV is not None:
            self._finite = torch.isfinite(logits_RV).all(1)
            chosen = self._pick(logits_RV, Want.TOKEN)
            self._tokens = None if chosen is None else _likeliest(chosen)
        token_rows = self._rows_R[self._want_R == Want.TOKEN]
        sampled.keep(
            token_rows if self._tokens is not None else token_rows[:0],
            self._tokens,
            len(batch.want_T),
        )
        self._output: Output | None = None

    def _pick(self, x_R: Tensor | None, want: Want) -> Tensor | None:
        """The rows that want this, or nothing where none does."""
        wanted = self._want_R == want
        if x_R is None or not wanted.any():
            return None
        if wanted.all():
            return x_R
        return x_R.index_select(0, torch.from_numpy(np.flatnonzero(wanted)).to(x_R.device))

    def result(self) -> Output:
        if self._output is None:
            if self._finite is not None:
                self._report(self._finite.cpu().numpy())
            tokens = None if self._tokens is None else self._tokens.to(torch.int32).cpu().numpy()
            self._output = Output(_floats(self._logits), _floats(self._hidden), tokens)
            self._logits = self._hidden = self._tokens = self._finite = None
        return self._output

    def _report(self, finite_R: Array) -> None:
        rows = self._rows_R[~finite_R & (self._want_R != Want.HIDDEN)]
        programs.note_not_finite(self._batch, rows, self._announcements)


def _likeliest(logits_RV: Tensor) -> Tensor:
    """The first of the likeliest tokens of each row, -1 where its logits hold NaN."""
    tokens_R = logits_RV.argmax(1)  # of NaN too
    highest_R = logits_RV.gather(1, tokens_R[:, None])[:, 0]
    return tokens_R.where(torch.isfinite(highest_R), -1)


def _floats(x: Tensor | None) -> Array | None:
    return None if x is None else x.float().cpu().numpy()
