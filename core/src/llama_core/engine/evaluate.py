"""How well a model predicts a text, and how far it strays from another: perplexity, divergence.

The text is cut into windows that do not overlap. Each is fed from an empty memory, and every token
of it but the first is scored by what stands before it in its window. Logits are looked at as they
come and let go; what stays is a number or two a token.

Legend: W windows, N tokens of a window, P = N - 1 that are scored, R rows of a step, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.program import KVLayout, Program
from llama_core.contracts.step import Batch, Want
from llama_core.engine.load import Loaded
from llama_core.errors import LlamaError
from llama_core.model.tokenizer import Tokenizer

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
MOST_LOGITS = 1 << 24  # numbers that a step gives at most: 64 MiB
MOST_SCORED = 1 << 20  # numbers that are scored at once, in 8 bytes each and several copies
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


class EvaluationError(LlamaError):
    """A text, or two models, that cannot be evaluated."""

    code = "evaluation_invalid"


@dataclass(frozen=True, slots=True)
class Text:
    """A text in windows of token ids."""

    windows_WN: Ints
    begins: bool  # each window begins with the token that begins a text
    left_out: int  # tokens at the end that fill no window


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over the scored tokens, with its standard error."""

    mean: float
    error: float  # as if the tokens were independent
    error_by_window: float | None  # as if the windows were; None where there is only one

    @staticmethod
    def of(x_WP: Floats) -> Estimate:
        if not np.isfinite(x_WP).all():
            return Estimate(float(x_WP.mean()), math.inf, None)
        windows, tokens = x_WP.shape[0], x_WP.size
        error = float(x_WP.std(ddof=1)) / math.sqrt(tokens) if tokens > 1 else math.inf
        by_window = None
        if windows > 1:
            by_window = float(x_WP.mean(1).std(ddof=1)) / math.sqrt(windows)
        return Estimate(float(x_WP.mean()), error, by_window)


@dataclass(frozen=True, slots=True)
class Prediction:
    """How well one model predicts the text: its surprise at each token, in nats."""

    name: str
    backend: str
    rewrites: tuple[str, ...]
    nll_WP: Floats

    @property
    def nll(self) -> Estimate:
        return Estimate.of(self.nll_WP)

    @property
    def perplexity(self) -> float:
        return _exp(self.nll.mean)


@dataclass(frozen=True, slots=True)
class Divergence:
    """How far a model strays from its base, token by token over the same tokens."""

    kld_WP: Floats  # of the base's distribution from the model's, in nats
    same_WP: NDArray[np.bool_]  # whether both find the same token likeliest
    more_WP: Floats  # surprise of the model less that of the base

    @property
    def kld(self) -> Estimate:
        return Estimate.of(self.kld_WP)

    @property
    def same_top(self) -> Estimate:
        return Estimate.of(self.same_WP.astype(np.float64))

    @property
    def nll_difference(self) -> Estimate:
        return Estimate.of(self.more_WP)

    @property
    def perplexity_ratio(self) -> float:
        return _exp(self.nll_difference.mean)

    def percentiles(self) -> dict[str, float]:
        values = np.percentile(self.kld_WP, PERCENTILES, method="higher")
        return {f"{p:g}": float(x) for p, x in zip(PERCENTILES, values, strict=True)}


# ---------------------------------------------------------------- texts


def cut(tokenizer: Tokenizer, text: str, window: int, vocab_size: int) -> Text:
    """A text as windows; each begins as the tokenizer begins a text."""
    if window < 2:
        raise EvaluationError(f"a window has at least 2 tokens, not {window}")
    if not text.strip():
        raise EvaluationError("the text is empty")
    # What looks like a special token is text here, as it was to whoever wrote it.
    tokens = tokenizer.encode(text, add_special=False, parse_special=False)
    start = _beginning(tokenizer)
    past = max(tokens)
    if past >= vocab_size:
        raise EvaluationError(
            f"the tokenizer gives token {past}, and the model's vocabulary ends at "
            f"{vocab_size - 1}",
            remedy="The tokenizer does not belong to this model.",
        )
    each = window - len(start)
    count = len(tokens) // each
    if not count:
        raise EvaluationError(
            f"the text has {len(tokens)} tokens, and a window holds {each} of them",
            remedy=f"Give a longer text, or --window {max(2, len(tokens) + len(start))}.",
        )
    body_WN = np.array(tokens[: count * each], np.int32).reshape(count, each)
    first_WN = np.tile(np.array(start, np.int32), (count, 1))
    return Text(np.hstack([first_WN, body_WN]), bool(start), len(tokens) - count * each)


def _beginning(tokenizer: Tokenizer) -> list[int]:
    """The token that the tokenizer puts before every text, where it puts one."""
    begun = tokenizer.encode("a")
    plain = tokenizer.encode("a", add_special=False)
    return begun[:1] if begun[:1] == [tokenizer.bos] and begun[:1] != plain[:1] else []


def check_alike(model: Loaded, base: Loaded, text: str) -> None:
    """Refuse to compare models whose token ids do not mean the same."""
    one, other = model.tokenizer, base.tokenizer
    sizes = model.program.vocab_size, base.program.vocab_size
    if sizes[0] != sizes[1]:
        raise EvaluationError(
            f"the vocabularies differ: {model.name} has {sizes[0]} tokens, {base.name} {sizes[1]}",
            remedy="Distributions over different tokens cannot be compared.",
        )
    for index in range(sizes[0]):
        pieces = one.id_to_token(index), other.id_to_token(index)
        if None not in pieces and pieces[0] != pieces[1]:
            raise EvaluationError(
                f"the vocabularies differ: token {index} is {pieces[0]!r} to {model.name} and "
                f"{pieces[1]!r} to {base.name}",
                remedy="Distributions over different tokens cannot be compared.",
            )
    ids = [t.encode(text, add_special=False, parse_special=False) for t in (one, other)]
    if ids[0] != ids[1]:
        at = next((i for i, pair in enumerate(zip(*ids, strict=False)) if pair[0] != pair[1]),
                  min(map(len, ids)))  # fmt: skip
        raise EvaluationError(
            f"the tokenizers of {model.name} and {base.name} cut the text differently, from its "
            f"token {at} on",
            remedy="Models are compared on identical tokens only.",
        )


# ---------------------------------------------------------------- scoring


def evaluate(
    text: Text,
    model: Loaded,
    base: Loaded | None = None,
    *,
    progress: Callable[[], None] = lambda: None,
) -> tuple[Prediction, Prediction | None, Divergence | None]:
    """Feed every window, to both models side by side; `progress` is told after each."""
    num_windows, length = text.windows_WN.shape
    for one in (model, base):
        if one is not None and getattr(one.program, "whole", False):
            raise EvaluationError(
                f"{one.name} looks both ways, so it predicts no next token",
                remedy="Perplexity is of models that generate.",
            )
        if one is not None and one.engine.engine.limits.max_length < length:
            raise EvaluationError(
                f"a window has {length} tokens, and {one.name} on {one.choice.name} holds "
                f"{one.engine.engine.limits.max_length}",
                remedy="Give a smaller --window.",
            )
    nll_WP, base_WP, kld_WP = np.zeros((3, num_windows, length - 1))
    same_WP = np.zeros((num_windows, length - 1), np.bool_)
    both = [model] if base is None else [model, base]
    most = min(each.plan.max_tokens for each in both)  # they go in step
    for w, tokens_N in enumerate(text.windows_WN):
        flows = [window_logits(each.program, tokens_N, most) for each in both]
        at = 0
        for logits in zip(*flows, strict=True):
            rows = len(logits[0])
            here = (w, slice(at, at + rows))
            targets_R = tokens_N[at + 1 : at + 1 + rows]
            logp_RV = log_softmax(logits[0], w, at)
            nll_WP[here] = -logp_RV[np.arange(rows), targets_R]
            if base is not None:
                base_RV = log_softmax(logits[1], w, at)
                base_WP[here] = -base_RV[np.arange(rows), targets_R]
                kld_WP[here] = divergence(base_RV, logp_RV)
                same_WP[here] = logits[0].argmax(1) == logits[1].argmax(1)
            at += rows
        progress()
    own = _prediction(model, nll_WP)
    if base is None:
        return own, None, None
    with np.errstate(invalid="ignore"):
        more_WP = nll_WP - base_WP
    return own, _prediction(base, base_WP), Divergence(kld_WP, same_WP, more_WP)


def window_logits(program: Program, tokens_N: Ints, max_rows: int) -> Iterator[NDArray[np.float32]]:
    """The logits after each token but the last, a few rows at a time."""
    vocab_size = program.vocab_size
    a_step = max(1, min(max_rows, MOST_LOGITS // vocab_size))
    a_piece = max(1, min(a_step, MOST_SCORED // vocab_size))
    last = len(tokens_N) - 1
    for start in range(0, last, a_step):
        stop = min(start + a_step, last)
        batch = stretch(program.kv, [tokens_N[start:stop]], start, last, Want.LOGITS)
        logits_RV = program.submit(batch).result().logits_RV
        if logits_RV is None or logits_RV.shape != (stop - start, vocab_size):
            raise EvaluationError("the program gave no logits for rows that want them")
        for row in range(0, stop - start, a_piece):
            yield logits_RV[row : row + a_piece]


def stretch(
    kv: KVLayout, tokens: Sequence[Ints], start: int, length: int, want: Want, *, last: bool = False
) -> Batch:
    """The next tokens of sequences that are all at `start` and will have `length`, each in blocks
    of its own; `last` where only the last row of each is to give something."""
    sizes = [len(each) for each in tokens]
    own = -(-length // kv.block_size)
    tables = tuple(tuple(range(s * own, (s + 1) * own)) for s in range(len(tokens)))
    want_T = np.full(sum(sizes), Want.NOTHING if last else want, np.uint8)
    want_T[np.cumsum(sizes) - 1] = want
    return Batch(
        tokens_T=np.concatenate(tokens).astype(np.int32),
        positions_T=np.concatenate([np.arange(start, start + n, dtype=np.int32) for n in sizes]),
        starts_S1=np.cumsum([0, *sizes], dtype=np.int32),
        blocks_G=(tables,) * len(kv.groups),
        want_T=want_T,
    )


def log_softmax(logits_RV: NDArray[np.float32], window: int = 0, position: int = 0) -> Floats:
    x_RV = logits_RV.astype(np.float64)
    top_R1 = x_RV.max(1, keepdims=True)
    if not np.isfinite(top_R1).all():
        row = int(np.flatnonzero(~np.isfinite(top_R1[:, 0]))[0])
        raise EvaluationError(
            f"the logits after token {position + row} of window {window} hold NaN, or nothing "
            "that is finite",
            remedy="Look for NaN with llama show MODEL --check, or compute in a wider type.",
        )
    x_RV -= top_R1
    x_RV -= np.log(np.exp(x_RV).sum(1, keepdims=True))
    return x_RV


def divergence(base_RV: Floats, model_RV: Floats) -> Floats:
    """Of the base from the model, row by row; infinite where the model rules a token out that the
    base does not. Rounding below zero is zero."""
    p_RV = np.exp(base_RV)
    with np.errstate(invalid="ignore"):  # -inf less -inf, where neither gives a token any weight
        terms_RV = np.where(p_RV > 0, p_RV * (base_RV - model_RV), 0.0)
    return np.maximum(terms_RV.sum(1), 0.0)


def _prediction(model: Loaded, nll_WP: Floats) -> Prediction:
    rewritten = () if model.graph is None else model.graph.rewrites
    return Prediction(model.name, model.choice.name, rewritten, nll_WP)


def _exp(x: float) -> float:
    return math.exp(x) if x < 700 else math.inf
