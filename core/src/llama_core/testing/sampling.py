"""The rules of transforms and samplers: functions of one request's rows and nothing else.

Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core.contracts.transform import SamplingContext
from llama_core.isolation import explain
from llama_core.testing.dice import own_dice_only, repeated
from llama_core.testing.rows import (
    ALMOST_ONE,
    Array,
    context,
    few_left,
    logits,
    odd_rows,
    same,
    sealed,
    uniforms,
    with_forbidden,
)
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check


def check_reads_only(call: Callable[[Sequence[Array]], object], arrays: Sequence[Array]) -> None:
    """The call leaves its arrays alone: one round to see that it writes, one to see where."""
    __tracebackhide__ = True
    given = [array.copy() for array in arrays]
    call(given)
    told = "It wrote into an array it was given; work on a copy, or use np.where."
    check(all(same(a, b) for a, b in zip(given, arrays, strict=True)), told)
    try:
        call([sealed(array) for array in arrays])
    except ValueError as error:
        check("read-only" not in str(error), f"{told} ({error})")
        raise


class TransformContract(FreshObjects, PluginContract):
    """What a transform must keep to. Override `vocab_sizes` where it is made for one vocabulary."""

    kind = "transform"
    vocab_size: ClassVar[int] = 17  # in most rules; at least 8
    vocab_sizes: ClassVar[Sequence[int]] = (2, 17, 32000)

    def test_shape_and_dtype_are_kept(self, make: Make) -> None:
        """As many rows and columns come out as went in, in float32."""
        for num_rows in (1, 3):
            given = logits(num_rows, self.vocab_size)
            found = make()(given.copy(), context(self.vocab_size))
            shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", None)
            check(
                isinstance(found, np.ndarray) and shape == given.shape and dtype == np.float32,
                f"float32 logits of shape {given.shape} went in, {dtype} of shape {shape} came "
                "out. Give an array of the same shape, and .astype(np.float32, copy=False).",
            )

    def test_input_is_not_written(self, make: Make) -> None:
        """The logits it is given are as they were."""
        one, about = make(), context(self.vocab_size)
        check_reads_only(lambda arrays: one(arrays[0], about), [logits(2, self.vocab_size)])

    def test_result_is_finite_or_forbids(self, make: Make) -> None:
        """Every number that comes out is finite or -inf: no NaN and no +inf."""
        for given in odd_rows(self.vocab_size):
            found = np.asarray(make()(given.copy(), context(self.vocab_size)))
            bad = found[~(np.isfinite(found) | np.isneginf(found))]
            check(
                bad.size == 0,
                f"{bad.size} of the numbers are {bad[:1]} for logits {_short(given)}. Mind "
                "-inf minus -inf, 0 times inf, and the overflow of exp.",
            )

    def test_some_token_is_left(self, make: Make) -> None:
        """A row that has a possible token keeps at least one."""
        for given in (*odd_rows(self.vocab_size), logits(2, self.vocab_size)):
            found = np.asarray(make()(given.copy(), context(self.vocab_size)))
            check(
                not np.isneginf(found).all(-1).any(),
                f"all tokens are forbidden for logits {_short(given)}. Always keep the likeliest.",
            )

    def test_forbidden_tokens_stay_forbidden(self, make: Make) -> None:
        """What an earlier transform forbade (-inf) stays forbidden."""
        given = with_forbidden(3, self.vocab_size)
        found = np.asarray(make()(given.copy(), context(self.vocab_size)))
        check(
            np.isneginf(found[np.isneginf(given)]).all(),
            "a token that was -inf can be chosen again. Leave -inf where it is.",
        )

    def test_is_deterministic(self, make: Make) -> None:
        """The same logits in the same context give the same bits, from this object and another."""
        given, about, one = logits(2, self.vocab_size), context(self.vocab_size), make()
        with own_dice_only("Take randomness from context.uniform(stream)."):
            first = one(given.copy(), about)
            others = [make()(given.copy(), about), *repeated(lambda: one(given.copy(), about))]
        check(
            all(same(first, other) for other in others),
            "the same input gave two results. Take randomness from context.uniform(stream), and "
            "remember nothing but in accept().",
        )

    def test_rows_do_not_influence_each_other(self, make: Make) -> None:
        """A row alone gives the same bits as among others, whatever their order."""
        given, about, one = logits(3, self.vocab_size), context(self.vocab_size), make()
        together = one(given.copy(), about)
        alone = [one(given[i : i + 1].copy(), about)[0] for i in range(3)]
        turned = one(given[::-1].copy(), about)[::-1]
        check(
            same(together, np.stack(alone)) and same(together, turned.copy()),
            "a row's result depends on the rows beside it. Work along the last axis only "
            "(axis=-1, keepdims=True).",
        )

    def test_every_vocabulary_size(self, make: Make) -> None:
        """It works from two tokens in the vocabulary to tens of thousands."""
        for size in self.vocab_sizes:
            _call_at(make(), size, context(size), f"a vocabulary of {size}", _SMALL)

    def test_first_token_of_all(self, make: Make) -> None:
        """It works before there is any output, and without a prompt."""
        for about in (context(self.vocab_size, 0), SamplingContext((), ())):
            words = f"{len(about.prompt)} prompt tokens and no output"
            _call_at(make(), self.vocab_size, about, words, _EMPTY)

    def test_accept_and_rollback_go_together(self, make: Make) -> None:
        """It has both `accept` and `rollback`, or neither."""
        has = [name for name in ("accept", "rollback") if hasattr(make(), name)]
        check(len(has) != 1, f"it has {has} only: what remembers must be able to take it back.")

    def test_rollback_restores(self, make: Make) -> None:
        """After `rollback(n)` it is as if the last n tokens had never been accepted."""
        if not hasattr(make(), "accept") or not hasattr(make(), "rollback"):
            pytest.skip("it remembers nothing")
        for keep, back in ((0, 1), (2, 1), (3, 4)):
            straight, detour = make(), make()
            tokens = _accept(straight, keep, self.vocab_size)
            _accept(detour, keep + back, self.vocab_size)
            detour.rollback(back)
            given, about = logits(1, self.vocab_size), SamplingContext((1, 2), tuple(tokens))
            expected, found = straight(given.copy(), about), detour(given.copy(), about)
            check(
                same(expected, found),
                f"after accepting {keep + back} tokens and rolling back {back} it answers "
                f"otherwise than after accepting {keep}. Keep what each accept() changed.",
            )


class SamplerContract(FreshObjects, PluginContract):
    """What a sampler must keep to."""

    kind = "sampler"
    vocab_size: ClassVar[int] = 17  # in most rules; at least 8
    vocab_sizes: ClassVar[Sequence[int]] = (2, 17, 32000)

    def test_one_token_id_a_row(self, make: Make) -> None:
        """It gives one integer for each row."""
        for num_rows in (1, 3):
            found = make()(
                logits(num_rows, self.vocab_size), uniforms(num_rows), context(self.vocab_size)
            )
            shape, dtype = getattr(found, "shape", None), getattr(found, "dtype", np.dtype("O"))
            check(
                shape == (num_rows,) and np.issubdtype(dtype, np.integer),
                f"{num_rows} rows gave {dtype} of shape {shape}. Give an integer array of shape "
                f"({num_rows},).",
            )

    def test_token_is_in_range(self, make: Make) -> None:
        """Every token lies in the vocabulary, at both ends of the random numbers too."""
        for random in (0.0, 0.5, ALMOST_ONE):
            for given in odd_rows(self.vocab_size):
                found = make()(given.copy(), np.full(len(given), random), context(self.vocab_size))
                check(
                    (np.asarray(found) >= 0).all() and (np.asarray(found) < self.vocab_size).all(),
                    f"uniform {random!r} gave token {found} of {self.vocab_size} for logits "
                    f"{_short(given)}. Mind rounding at the end of the cumulative sum.",
                )

    def test_forbidden_token_is_never_chosen(self, make: Make) -> None:
        """A token whose logit is -inf is not chosen, whatever the random number."""
        smallest = min(self.vocab_size, *self.vocab_sizes)
        for size in sorted({3, *self.vocab_sizes, self.vocab_size}):
            if not smallest <= size <= self.vocab_size or self._fails_at(make, size):
                continue  # the rule about vocabularies says so
            rows, one, about = few_left(size), make(), context(size)
            together = np.concatenate([row for _, row in rows])
            for random in (0.0, 0.25, 0.5, 0.75, ALMOST_ONE):
                alone = [one(row.copy(), np.array([random]), about) for _, row in rows]
                batch = one(together.copy(), np.full(len(rows), random), about)
                for (left, row), *found in zip(rows, alone, np.asarray(batch), strict=True):
                    for token in found:
                        check(
                            np.isin(np.asarray(token) % size, left).all(),
                            f"uniform {random!r} chose token {token}, whose logit is -inf: of "
                            f"{_short(row)} only {list(left)} may be chosen. Take no higher rank "
                            "than there are allowed tokens in that row, which are "
                            "np.isfinite(logits_NV).sum(-1); at 0.0 skip tokens of probability "
                            "0; past the end of the sum take the last possible one.",
                        )

    def _fails_at(self, make: Make, size: int) -> bool:
        try:
            make()(logits(2, size), uniforms(2), context(size))
        except Exception:  # noqa: BLE001 - only whether
            return size != self.vocab_size
        return False

    def test_is_deterministic(self, make: Make) -> None:
        """The same logits and random numbers give the same tokens, from this object and another."""
        given, random, about, one = (
            logits(8, self.vocab_size),
            uniforms(8),
            context(self.vocab_size),
            make(),
        )
        with own_dice_only("Use no randomness but uniforms_N."):
            first = np.asarray(one(given, random, about))
            others = [make()(given, random, about), *repeated(lambda: one(given, random, about))]
        check(
            all((first == np.asarray(other)).all() for other in others),
            "the same input gave two choices. Use no randomness but uniforms_N.",
        )

    def test_rows_do_not_influence_each_other(self, make: Make) -> None:
        """A row alone gives the same token as among others, whatever their order."""
        given, random, about, one = (
            logits(8, self.vocab_size),
            uniforms(8),
            context(self.vocab_size),
            make(),
        )
        together = np.asarray(one(given, random, about))
        alone = [int(one(given[i : i + 1], random[i : i + 1], about)[0]) for i in range(8)]
        turned = np.asarray(one(given[::-1].copy(), random[::-1].copy(), about))[::-1]
        check(
            (together == alone).all() and (together == turned).all(),
            "a row's token depends on the rows beside it. Work along the last axis only, with "
            "the row's own random number.",
        )

    def test_input_is_not_written(self, make: Make) -> None:
        """Logits and random numbers are as they were."""
        one, about = make(), context(self.vocab_size)
        check_reads_only(
            lambda arrays: one(*arrays, about), [logits(2, self.vocab_size), uniforms(2)]
        )

    def test_every_vocabulary_size(self, make: Make) -> None:
        """It works from two tokens in the vocabulary to tens of thousands."""
        for size in self.vocab_sizes:
            _call_at(make(), size, context(size), f"a vocabulary of {size}", _SMALL, uniforms(2))

    def test_first_token_of_all(self, make: Make) -> None:
        """It works before there is any output, and without a prompt."""
        for about in (context(self.vocab_size, 0), SamplingContext((), ())):
            words = f"{len(about.prompt)} prompt tokens and no output"
            _call_at(make(), self.vocab_size, about, words, _EMPTY, uniforms(2))


_SMALL = (
    "A vocabulary may be as small as 2 and as large as 100,000 tokens: ask for no more than there "
    "are, as in min(k, logits_NV.shape[-1]), and keep token ids in int64. Where it is made for "
    "one vocabulary, set vocab_sizes in the test class."
)
_EMPTY = "Prompt and output may both be empty: look before you index."


def _call_at(
    one: Any, size: int, about: SamplingContext, words: str, remedy: str, *more: Array
) -> None:
    __tracebackhide__ = True
    for given in (logits(2, size), with_forbidden(2, size)):
        try:
            one(given.copy(), *more, about)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            check(False, f"with {words} it fails: {explain(error)}. {remedy}")


def _accept(one: Any, num_tokens: int, size: int) -> list[int]:
    """Let it accept the likeliest token so many times; these tokens."""
    tokens: list[int] = []
    for step in range(num_tokens):
        found = one(logits(1, size, seed=step), SamplingContext((1, 2), tuple(tokens)))
        tokens.append(int(np.asarray(found)[0].argmax()))
        one.accept(tokens[-1])
    return tokens


def _short(rows: Array) -> str:
    return np.array2string(rows[0], precision=3, threshold=8, edgeitems=3)
