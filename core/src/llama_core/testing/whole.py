"""The rules of a program whose attention looks both ways: a text comes in one step, uncut.

Such a program gives hidden states alone, and nothing of a text is left in it when the step is over.
Legend as in `contracts.step`: T rows, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from llama_core import contracts
from llama_core.contracts.program import WholeProgram
from llama_core.contracts.spec import Spec
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.testing import drive, signatures
from llama_core.testing.drive import Part
from llama_core.testing.steps import alike
from llama_core.testing.verdict import check, refuses

_WHOLE: Spec[WholeProgram] = Spec("program", WholeProgram, contracts.spec("program").hook)


class WholeProgramRules:
    """Mixed into the suites of what gives such programs; they make the fixture `program`.

    `plan` and `loose` are as in the suites of other programs.
    """

    plan: ClassVar[Plan] = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
    loose: ClassVar[float] = 1e-2

    def test_whole_program_says_what_it_is(self, program: Any) -> None:
        """A program has all members of the contract, and says that it wants texts whole."""
        lacks = _WHOLE.unfulfilled(program)
        check(lacks is None, str(lacks))
        misfits = signatures.misfits(program, WholeProgram)
        check(not misfits, "; ".join(misfits))
        check(program.whole is True, f"whole is {program.whole!r}; it must be True.")
        known = program.invariance in ("bitwise", "none")
        check(known, f"invariance is {program.invariance!r}; say 'bitwise' or 'none'.")
        check(program.vocab_size > 0, f"vocab_size is {program.vocab_size}.")

    def test_wanted_rows_give_hidden_states(self, program: Any) -> None:
        """Every row that wants one gives a finite float32 hidden state, the others give nothing."""
        text = _text(program, 6)
        states = _states(program, Part(text))[0]
        check(
            states.dtype == np.float32 and len(states) == 6 and np.isfinite(states).all(),
            f"6 rows gave {states.dtype} of {states.shape}; it must be finite float32 of (6, D).",
        )
        batch = _batch(program, Part(text))
        batch.want_T[[0, 1, 3, 4]] = Want.NOTHING
        found: Any = drive.step(program, batch).hidden_RD
        check(len(found) == 2, f"2 rows of 6 wanted hidden states, and {len(found)} came.")
        self._same(program, found, states[[2, 5]], "asking fewer rows")

    def test_every_state_knows_the_whole_text(self, program: Any) -> None:
        """The state of the first token depends on the last: else it need not come whole."""
        text = _text(program, 6)
        other = [*text[:-1], (text[-1] + 1) % program.vocab_size]
        first, second = (_states(program, Part(each))[0][0] for each in (text, other))
        check(
            not np.array_equal(first, second),
            "another last token does not change the first one's state. A program that looks back "
            "only leaves `whole` out, and its prompts can be cut and shared.",
        )

    def test_a_cut_text_is_refused(self, program: Any) -> None:
        """Going on from an earlier step is refused with a LlamaError, never answered as if new."""
        text = _text(program, 6)
        _states(program, Part(text[:4]))
        refuses(
            lambda: _states(program, Part(text[4:], 4)),
            "the rest of a text, from position 4 on, must be refused with a LlamaError.",
        )

    def test_texts_in_one_step_do_not_mix(self, program: Any) -> None:
        """A text gives the same states alone and among others, wherever it stands."""
        parts = [Part(_text(program, length, length), owner=length) for length in (2, 1, 4)]
        alone = [_states(program, part)[0] for part in parts]
        for order in ((0, 1, 2), (2, 0, 1)):
            together = _states(program, *(parts[i] for i in order))
            for i, found in zip(order, together, strict=True):
                self._same(program, found, alone[i], f"sharing the step in order {order}")

    def test_nothing_is_left_of_a_text(self, program: Any) -> None:
        """The same text gives the same states again, whatever lay in its blocks meanwhile."""
        text = _text(program, 5)
        before = _states(program, Part(text))[0]
        _states(program, Part(_text(program, 9, 3)))
        again = _states(program, Part(text))[0]
        self._same(program, again, before, "a longer text in between")

    def test_batch_of_texts_is_not_changed(self, program: Any) -> None:
        """The arrays of a batch are as they were, so that the engine may use them again."""
        text = _text(program, 6)
        batch, before = _batch(program, Part(text)), _batch(program, Part(text))
        drive.step(program, batch)
        for name in ("tokens_T", "positions_T", "starts_S1", "want_T"):
            same = np.array_equal(getattr(batch, name), getattr(before, name))
            check(same, f"the program wrote into batch.{name}. Copy it first.")

    def test_bad_texts_are_refused(self, program: Any) -> None:
        """What lies out of range is refused with a LlamaError, and the program works on."""
        text = _text(program, 6)
        states = _states(program, Part(text))[0]
        for about, batch in _bad(program, text, self.plan):
            refuses(
                partial(drive.step, program, batch),
                f"a batch with {about} must be refused with a LlamaError.",
            )
        again = _states(program, Part(text))[0]
        self._same(program, again, states, "refusing bad batches in between")

    def test_closed_program_takes_no_text(self, program: Any) -> None:
        """`close` may be called twice, and afterwards a step is refused with a LlamaError."""
        batch = _batch(program, Part(_text(program, 3)))
        program.close()
        program.close()
        refuses(
            lambda: drive.step(program, batch),
            "a step after close() must be refused with a LlamaError.",
        )

    def _same(self, program: Any, found: Any, expected: Any, what: str) -> None:
        __tracebackhide__ = True
        alike(program, found, expected, what, self.loose, "hidden states")


def _text(program: Any, num: int, seed: int = 0) -> list[int]:
    return drive.tokens(program.vocab_size, num, seed)


def _batch(program: Any, *parts: Part) -> Batch:
    return drive.batch(program.kv, *(replace(part, want=Want.HIDDEN) for part in parts))


def _states(program: Any, *parts: Part) -> list[NDArray[np.float32]]:
    """One step; the hidden states of each part's rows."""
    found = drive.step(program, _batch(program, *parts)).hidden_RD
    check(found is not None, "rows asked for hidden states and got none.")
    assert found is not None
    return np.split(found, np.cumsum([len(part.tokens) for part in parts])[:-1])


def _bad(program: Any, text: list[int], plan: Plan) -> Iterator[tuple[str, Batch]]:
    good = _batch(program, Part(text))
    for token in (-1, program.vocab_size):
        tokens_T = good.tokens_T.copy()
        tokens_T[2] = token
        yield f"token {token} of {program.vocab_size}", replace(good, tokens_T=tokens_T)
    yield "a negative position", replace(good, positions_T=good.positions_T - 1)
    yield "rows that belong to no sequence", replace(good, starts_S1=good.starts_S1 // 2)
    long = [text[0]] * (plan.max_tokens + 1)
    yield f"more rows than the plan's {plan.max_tokens}", _batch(program, Part(long))
