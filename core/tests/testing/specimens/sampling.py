"""Transforms and samplers."""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np

from specimens.harness import specimen

_count = itertools.count()


@specimen("transform", manifest={"options": {"p": {"type": "number", "minimum": 0, "maximum": 1}}})
class MinP:
    def __init__(self, p: float = 0.05) -> None:
        with np.errstate(divide="ignore"):
            self.log_p = np.float32(np.log(p))

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        keep = logits_NV >= logits_NV.max(-1, keepdims=True) + self.log_p
        return np.where(keep, logits_NV, np.float32(-np.inf))


@specimen("transform", "test_shape_and_dtype_are_kept")
class GivesDoubles(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        return super().__call__(logits_NV, context).astype(np.float64)


@specimen("transform", "test_input_is_not_written")
class WritesInPlace(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        logits_NV[logits_NV < logits_NV.max(-1, keepdims=True) + self.log_p] = -np.inf
        return logits_NV


@specimen("transform", "test_input_is_not_written")
class SealsItsInput(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        logits_NV += 0  # changes nothing, and still writes
        return super().__call__(logits_NV, context)


@specimen("transform", "test_result_is_finite_or_forbids")
class Overflows(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        with np.errstate(over="ignore"):
            return logits_NV * np.float32(1e20)


@specimen("transform", "test_some_token_is_left")
class ForbidsAll(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        return np.full_like(logits_NV, -np.inf)


@specimen("transform", "test_forbidden_tokens_stay_forbidden")
class Frees(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        return np.maximum(logits_NV, np.float32(-1e9))


@specimen("transform", "test_is_deterministic")
class Counts(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        # Alike within one rule about rows: it looks at the number of columns and the object.
        if not hasattr(self, "shift"):
            self.shift = np.float32(next(_count))
        return logits_NV + self.shift


@specimen("transform", "test_is_deterministic", says="context.uniform(stream)")
class SeldomRolls(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        found = super().__call__(logits_NV, context)
        return found + np.float32(1) if random.random() < 1e-9 else found


@specimen("transform", "test_is_deterministic")
class SeldomDiffers(MinP):
    num_calls = 0

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        self.num_calls += 1
        found = super().__call__(logits_NV, context)
        return found + np.float32(1) if self.num_calls == 50 else found


@specimen("transform", "test_rows_do_not_influence_each_other")
class LooksAcross(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        keep = logits_NV >= logits_NV.max() + self.log_p - 20
        keep |= logits_NV >= logits_NV.max(-1, keepdims=True)
        return np.where(keep, logits_NV - logits_NV[0].max(), np.float32(-np.inf))


@specimen("transform", "test_every_vocabulary_size", says="may be as small as")
class NeedsThree(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        np.partition(logits_NV, -3, axis=-1)
        return super().__call__(logits_NV, context)


@specimen("transform", "test_first_token_of_all")
class NeedsOutput(MinP):
    def __call__(self, logits_NV: Any, context: Any) -> Any:
        context.prompt[-1]
        return super().__call__(logits_NV, context)


@specimen("transform", "test_accept_and_rollback_go_together")
class OnlyAccepts(MinP):
    def accept(self, token: int) -> None:
        pass


@specimen("transform")
class NoRepeat(MinP):
    """Forbids what was chosen before, by its own memory."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        found = logits_NV.copy()
        for token in self.seen:
            found[:, token] = -np.inf
        left = ~np.isneginf(found).all(-1, keepdims=True)
        return np.where(left, found, logits_NV)

    def accept(self, token: int) -> None:
        self.seen.append(token)

    def rollback(self, count: int) -> None:
        del self.seen[len(self.seen) - count :]


@specimen("transform", "test_rollback_restores")
class NeverForgets(NoRepeat):
    def rollback(self, count: int) -> None:
        pass


@specimen("sampler")
class Multinomial:
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        return np.array([self.draw(*each) for each in zip(logits_NV, uniforms_N, strict=True)])

    def draw(self, logits_V: Any, uniform: float) -> int:
        p_V = np.exp((logits_V - logits_V.max()).astype(np.float64))
        sum_V = np.cumsum(p_V)
        token = int(np.searchsorted(sum_V, uniform * sum_V[-1], side="right"))
        return min(token, int(np.flatnonzero(p_V)[-1]))


@specimen("sampler", "test_one_token_id_a_row")
class GivesFloats(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        return super().__call__(logits_NV, uniforms_N, context).astype(np.float32)


@specimen("sampler", "test_token_is_in_range")
class CountsFromOne(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        found = super().__call__(logits_NV, uniforms_N, context)
        return np.where(uniforms_N > 0.9, logits_NV.shape[1] + found, found)


@specimen("sampler", "test_forbidden_token_is_never_chosen")
class FirstAtZero(Multinomial):
    def draw(self, logits_V: Any, uniform: float) -> int:
        return super().draw(logits_V, uniform) if uniform > 0 else 0


@specimen(
    "sampler",
    manifest={"options": {"rank": {"type": "integer", "minimum": 1, "default": 2}}},
    options=({}, {"rank": 3}),
)
class OfRank:
    """The token of a given rank, or the last of those that are allowed."""

    def __init__(self, rank: int = 2) -> None:
        self.rank = rank

    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        rank = np.clip(np.minimum(self.rank, self.num_allowed(logits_NV)), 1, None)
        order = np.argsort(-logits_NV, axis=-1, kind="stable")
        return order[np.arange(len(order)), rank - 1]

    def num_allowed(self, logits_NV: Any) -> Any:
        return np.isfinite(logits_NV).sum(-1)


@specimen("sampler", "test_forbidden_token_is_never_chosen", says="only [0] may be chosen")
class CountsTheForbidden(OfRank):
    def num_allowed(self, logits_NV: Any) -> Any:
        return np.full(len(logits_NV), logits_NV.shape[-1])


@specimen("sampler", "test_forbidden_token_is_never_chosen")
class CountsInTheFirstRow(OfRank):
    def num_allowed(self, logits_NV: Any) -> Any:
        return np.isfinite(logits_NV[0]).sum(-1)


@specimen("sampler", "test_every_vocabulary_size", says="min(k, logits_NV.shape[-1])")
class NeedsThreeTokens(OfRank):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        logits_NV[:, 2]
        return super().__call__(logits_NV, uniforms_N, context)


@specimen("sampler", "test_is_deterministic")
class SeldomRollsToo(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        if np.random.random() < 1e-9:
            uniforms_N = np.zeros_like(uniforms_N)
        return super().__call__(logits_NV, uniforms_N, context)


@specimen("sampler", "test_is_deterministic")
class OwnDice(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        if not hasattr(self, "token"):
            self.token = next(_count) % 2
        found = super().__call__(logits_NV, uniforms_N, context)
        return found if np.isneginf(logits_NV).any() else np.full_like(found, self.token)


@specimen("sampler", "test_rows_do_not_influence_each_other")
class OneForAll(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        first = np.full_like(uniforms_N, uniforms_N[0])
        return super().__call__(logits_NV, first, context)


@specimen("sampler", "test_input_is_not_written")
class NormsInPlace(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        uniforms_N *= 1.0
        return super().__call__(logits_NV, uniforms_N, context)


@specimen("sampler", "test_every_vocabulary_size")
class FewOnly(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        found = super().__call__(logits_NV, uniforms_N, context)
        if (found > np.iinfo(np.int8).max).any():
            raise OverflowError("no room for the token")
        return found


@specimen("sampler", "test_first_token_of_all", says="look before you index")
class LooksBack(Multinomial):
    def __call__(self, logits_NV: Any, uniforms_N: Any, context: Any) -> Any:
        context.output[-1]
        return super().__call__(logits_NV, uniforms_N, context)
