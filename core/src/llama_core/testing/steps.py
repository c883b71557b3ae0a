"""The rules of a program, however it came to be: what the engine relies on at every step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core import contracts
from llama_core.contracts.program import Program
from llama_core.contracts.spec import Spec
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.testing import drive, signatures
from llama_core.testing.drive import Part
from llama_core.testing.verdict import check, refuses

_PROGRAM: Spec[Program] = Spec("program", Program, contracts.spec("program").hook)


class ProgramRules:
    """Mixed into the suites of kinds that give programs; they make the fixture `program`.

    `plan` is what programs are made for. `loose` bounds how far two ways to the same logits may
    lie apart in a program that is not `bitwise`, relative to the largest.
    """

    plan: ClassVar[Plan] = Plan(kv_bytes=1 << 20, block_size=4, max_tokens=64, max_sequences=8)
    loose: ClassVar[float] = 1e-2

    def test_program_says_what_it_is(self, program: Any) -> None:
        """A program has all members of the contract, and its layout of memory makes sense."""
        lacks = _PROGRAM.unfulfilled(program)
        check(lacks is None, str(lacks))
        misfits = signatures.misfits(program, Program)
        check(not misfits, "; ".join(misfits))
        known = program.invariance in ("bitwise", "none")
        check(known, f"invariance is {program.invariance!r}; say 'bitwise' or 'none'.")
        kv, layers = program.kv, [layer for group in program.kv.groups for layer in group.layers]
        check(kv.block_size > 0 and kv.num_blocks > 0, f"there are no blocks: {kv}.")
        check(len(layers) == len(set(layers)), f"a layer is in two groups: {layers}.")
        check(program.vocab_size > 0, f"vocab_size is {program.vocab_size}.")

    def test_rows_give_logits(self, program: Any) -> None:
        """Every row that wants logits gives a finite float32 for each token, in their order."""
        out = drive.step(program, drive.batch(program.kv, Part(self._prompt(program, 7))))
        found: Any = out.logits_RV
        shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
        check(
            shape == (7, program.vocab_size) and dtype == np.float32,
            f"7 rows gave {dtype} of {shape}; it must be float32 of (7, {program.vocab_size}).",
        )
        check(np.isfinite(found).all(), "some logits are not finite.")

    def test_only_wanted_rows_give(self, program: Any) -> None:
        """Rows that want nothing give nothing, and hidden states come apart from logits."""
        prompt = self._prompt(program, 6)
        whole = drive.run(program, Part(prompt))[0]
        batch = drive.batch(program.kv, Part(prompt))
        wants = [Want.NOTHING, Want.LOGITS, Want.HIDDEN, Want.NOTHING, Want.NOTHING, Want.LOGITS]
        out = drive.step(program, replace(batch, want_T=np.array(wants, np.uint8)))
        shapes = [getattr(each, "shape", (0,))[0] for each in (out.logits_RV, out.hidden_RD)]
        check(shapes == [2, 1], f"2 rows of logits and 1 hidden were wanted, and came {shapes}.")
        self._same(program, out.logits_RV, whole[[1, 5]], "asking fewer rows for logits")

    def test_chunks_give_what_the_whole_gives(self, program: Any) -> None:
        """A prompt cut into several steps, or fed token by token, gives the same logits."""
        prompt = self._prompt(program, 11)
        whole = drive.run(program, Part(prompt, owner=0))[0]
        for owner, cuts in enumerate(([0, 5, 11], [0, 4, 8, 11], list(range(12))), 1):
            parts = [drive.run(program, Part(prompt[a:b], a, owner))[0] for a, b in pairwise(cuts)]
            self._same(program, np.concatenate(parts), whole, f"cutting the prompt at {cuts}")

    def test_batch_mates_do_not_matter(self, program: Any) -> None:
        """A sequence gives the same logits alone and among others, wherever it stands."""
        prompts = [self._prompt(program, length, length) for length in (5, 1, 9)]
        parts = [Part(prompt, owner=i) for i, prompt in enumerate(prompts)]
        alone = [drive.run(program, part)[0] for part in parts]
        for order in ((0, 1, 2), (2, 0, 1)):
            together = drive.run(program, *(parts[i] for i in order))
            for i, found in zip(order, together, strict=True):
                self._same(program, found, alone[i], f"sharing the batch in order {order}")

    def test_rollback_forgets(self, program: Any) -> None:
        """Going on from an earlier position gives what it would if later tokens had never been."""
        prompt, other = self._prompt(program, 5), self._prompt(program, 4, 9)
        straight = drive.run(program, Part([*prompt, *other], owner=0))[0][5:]
        drive.run(program, Part([*prompt, *self._prompt(program, 6, 3)], owner=1))
        found = drive.run(program, Part(other, 5, owner=1))[0]
        self._same(program, found, straight, "taking back six tokens")

    def test_copied_blocks_are_equal(self, program: Any) -> None:
        """After `copy_blocks` a sequence can go on in the copies, and the originals stay.

        What is copied is what the steps submitted before have written, read or not.
        """
        kv, prompt, rest = program.kv, self._prompt(program, 6), self._prompt(program, 3, 9)
        pending = program.submit(drive.batch(kv, Part(prompt, owner=0)))
        pairs = [
            (group, old, new)
            for group in range(len(kv.groups))
            for old, new in zip(drive.table(kv, 0), drive.table(kv, 1), strict=True)
        ]
        program.copy_blocks(pairs)
        pending.result()
        in_copy = drive.run(program, Part(rest, 6, owner=1))[0]
        drive.run(program, Part(self._prompt(program, 3, 4), 6, owner=1))
        in_place = drive.run(program, Part(rest, 6, owner=0))[0]
        self._same(program, in_copy, in_place, "going on in copied blocks")

    def test_batch_is_not_changed(self, program: Any) -> None:
        """The arrays of a batch are as they were, so that the engine may use them again."""
        prompt = self._prompt(program, 6)
        batch = drive.batch(program.kv, Part(prompt))
        before = drive.batch(program.kv, Part(prompt))
        drive.step(program, batch)
        for name in ("tokens_T", "positions_T", "starts_S1", "want_T"):
            same = np.array_equal(getattr(batch, name), getattr(before, name))
            check(same, f"the program wrote into batch.{name}. Copy it first.")

    def test_tables_may_change_after_submit(self, program: Any) -> None:
        """Once `submit` has returned, the engine may write into the block tables it gave."""
        prompt = self._prompt(program, 6)
        whole = drive.run(program, Part(prompt))[0]
        batch = drive.batch(program.kv, Part(prompt))
        tables = [[list(table) for table in group] for group in batch.blocks_G]
        pending = program.submit(replace(batch, blocks_G=tuple(map(tuple, tables))))
        for group in tables:
            for table in group:
                table[:] = [program.kv.num_blocks] * len(table)
        try:
            found = pending.result().logits_RV
        except Exception as error:  # noqa: BLE001 - any error is the finding
            check(False, f"result() looks at the block tables again: {error}. Copy them before.")
        self._same(program, found, whole, "writing into the block tables once submit has returned")

    def test_bad_batches_are_refused(self, program: Any) -> None:
        """What lies out of range is refused with a LlamaError, and the program works on."""
        prompt = self._prompt(program, 6)
        whole = drive.run(program, Part(prompt, owner=1))[0]
        for about, batch in _bad(program, prompt, self.plan):
            refuses(
                partial(drive.step, program, batch),
                f"a batch with {about} must be refused with a LlamaError.",
            )
        far = program.kv.num_blocks
        for group in range(min(1, len(program.kv.groups))):
            refuses(
                partial(program.copy_blocks, [(group, 0, far)]),
                f"copy_blocks to block {far} of {far} must be refused with a LlamaError.",
            )
        again = drive.run(program, Part(prompt, owner=1))[0]
        self._same(program, again, whole, "refusing bad batches in between")

    def test_sampled_tokens_are_the_likeliest(self, program: Any) -> None:
        """A program that samples greedily itself gives the token of the highest logit."""
        if "greedy" not in getattr(program, "samples", ()):
            pytest.skip("it does not sample itself")
        prompt = self._prompt(program, 6)
        logits = drive.run(program, Part(prompt))[0]
        out = drive.step(program, drive.batch(program.kv, Part(prompt, want=Want.TOKEN)))
        found, expected = np.asarray(out.tokens_R), logits.argmax(-1)
        check(np.array_equal(found, expected), f"it sampled {found}, the likeliest are {expected}.")

    def test_close_twice(self, program: Any) -> None:
        """`close` may be called twice, and afterwards a step is refused with a LlamaError."""
        batch = drive.batch(program.kv, Part(self._prompt(program, 3)))
        program.close()
        program.close()
        refuses(
            lambda: drive.step(program, batch),
            "a step after close() must be refused with a LlamaError.",
        )

    def _prompt(self, program: Any, num: int, seed: int = 0) -> list[int]:
        return drive.tokens(program.vocab_size, num, seed)

    def _same(self, program: Any, found: Any, expected: Any, what: str) -> None:
        __tracebackhide__ = True
        alike(program, found, expected, what, self.loose, "logits")


def alike(program: Any, found: Any, expected: Any, what: str, loose: float, of: str) -> None:
    """Equal to the bit where the program says so, else up to what could be rounding."""
    __tracebackhide__ = True
    if program.invariance == "bitwise":
        check(
            np.array_equal(found, expected),
            f"{what} changes bits of the {of}, and the program says it is 'bitwise'. Fix "
            "tiles and the order of sums by shape and position, or say 'none'.",
        )
        return
    error = float(np.abs(found - expected).max() / np.abs(expected).max())
    check(
        error <= loose,
        f"{what} changes the {of} by {error:.2g} of the largest; up to {loose:g} "
        "could be rounding.",
    )


def _bad(program: Any, prompt: list[int], plan: Plan) -> Iterator[tuple[str, Batch]]:
    good = drive.batch(program.kv, Part(prompt))
    for token in (-1, program.vocab_size):
        yield f"token {token} of {program.vocab_size}", _with(good, "tokens_T", token)
    yield "a negative position", replace(good, positions_T=good.positions_T - 1)
    far = replace(good, positions_T=good.positions_T + 1000)
    yield "positions beyond its blocks", far
    if (most := program.kv.context_length) is not None:
        beyond = drive.batch(program.kv, Part(prompt))
        size = program.kv.block_size
        tables = tuple(((0,) * (-(-(most + len(prompt)) // size)),) for _ in program.kv.groups)
        late = replace(beyond, positions_T=beyond.positions_T + most, blocks_G=tables)
        yield f"position {most} of {most} of its context", late
    for block in (-1, program.kv.num_blocks):
        if program.kv.groups:
            tables = tuple(((block,) * len(each[0]),) for each in good.blocks_G)
            yield f"block {block} of {program.kv.num_blocks}", replace(good, blocks_G=tables)
    yield "rows that belong to no sequence", replace(good, starts_S1=good.starts_S1 // 2)
    long = [prompt[0]] * (plan.max_tokens + 1)
    yield f"more rows than the plan's {plan.max_tokens}", drive.batch(program.kv, Part(long))


def _with(batch: Batch, name: str, value: int) -> Batch:
    array = getattr(batch, name).copy()
    array[2] = value
    return replace(batch, **{name: array})
