"""Each transform and sampler against a plain definition of its own, in lists and loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.builtin.samplers import SAMPLERS, Mirostat
from llama_core.builtin.transforms import TRANSFORMS
from llama_core.builtin.transforms_history import TRANSFORMS as HISTORY
from llama_core.contracts.transform import SamplingContext, philox, uniform
from llama_core.errors import OptionsError

ALL = {**TRANSFORMS, **HISTORY}
INF = math.inf
Row = list[float]
Plain = Callable[[Row, SamplingContext], Row]


def probabilities(row: Row) -> Row:
    top = max(row)
    weights = [math.exp(x - top) for x in row]
    return [w / sum(weights) for w in weights]


def only(row: Row, kept: set[int]) -> Row:
    return [x if i in kept else -INF for i, x in enumerate(row)]


def by_likelihood(row: Row) -> list[int]:
    return sorted(range(len(row)), key=lambda i: (-row[i], i))


def until_mass(row: Row, order: Sequence[int], mass: float) -> Row:
    kept, total, p = set(), 0.0, probabilities(row)
    for i in order:
        if row[i] == -INF:
            continue
        kept.add(i)
        total += p[i]
        if total >= mass:
            break
    return only(row, kept)


def temperature(row: Row, c: SamplingContext, temperature: float) -> Row:
    return [x / temperature for x in row]


def top_k(row: Row, c: SamplingContext, k: int) -> Row:
    least = sorted(row, reverse=True)[min(k, len(row)) - 1]
    return [x if x >= least else -INF for x in row]


def top_p(row: Row, c: SamplingContext, p: float) -> Row:
    return until_mass(row, by_likelihood(row), p)


def min_p(row: Row, c: SamplingContext, p: float) -> Row:
    chances = probabilities(row)
    return only(row, {i for i, x in enumerate(chances) if x >= p * max(chances) * (1 - 1e-6)})


def typical(row: Row, c: SamplingContext, p: float) -> Row:
    chances = probabilities(row)
    entropy = -sum(x * math.log(x) for x in chances if x)
    strange = [abs(-math.log(x) - entropy) if x else INF for x in chances]
    return until_mass(row, sorted(range(len(row)), key=lambda i: (strange[i], i)), p)


def top_n_sigma(row: Row, c: SamplingContext, n: float) -> Row:
    finite = [x for x in row if x > -INF]
    mean = sum(finite) / len(finite)
    sigma = math.sqrt(sum((x - mean) ** 2 for x in finite) / len(finite))
    return [x if x >= max(row) - n * sigma - 1e-6 else -INF for x in row]


def xtc(row: Row, c: SamplingContext, probability: float, threshold: float) -> Row:
    if uniform(c.seed, len(c.output), 1) >= probability:
        return row
    chances = probabilities(row)
    above = [i for i in by_likelihood(row) if chances[i] >= threshold]
    return only(row, set(range(len(row))) - set(above[:-1]))


def repetition(row: Row, c: SamplingContext, penalty: float, last: int = 0) -> Row:
    said = [*c.prompt, *c.output]
    seen = set(said[-last:] if last else said)
    return [(x / penalty if x > 0 else x * penalty) if i in seen else x for i, x in enumerate(row)]


def presence(row: Row, c: SamplingContext, penalty: float) -> Row:
    return [x - penalty if i in c.output else x for i, x in enumerate(row)]


def frequency(row: Row, c: SamplingContext, penalty: float) -> Row:
    return [x - penalty * list(c.output).count(i) for i, x in enumerate(row)]


def logit_bias(row: Row, c: SamplingContext, bias: dict[str, float]) -> Row:
    added = {int(t): -INF if b <= -100 else b for t, b in bias.items()}
    return [x + added.get(i, 0) for i, x in enumerate(row)]


def min_length(row: Row, c: SamplingContext, tokens: int) -> Row:
    return [-INF if i in c.eos and len(c.output) < tokens else x for i, x in enumerate(row)]


def bad_words(row: Row, c: SamplingContext, words: list[list[int]]) -> Row:
    def completes(token: int) -> bool:
        said = [*c.prompt, *c.output, token]
        return any(said[-len(w) :] == w for w in words)

    return [-INF if completes(i) else x for i, x in enumerate(row)]


def no_repeat_ngram(row: Row, c: SamplingContext, n: int) -> Row:
    def repeats(token: int) -> bool:
        said = [*c.prompt, *c.output, token]
        grams = [tuple(said[i : i + n]) for i in range(len(said) - n + 1)]
        return len(grams) > 1 and grams[-1] in grams[:-1]

    return [-INF if repeats(i) else x for i, x in enumerate(row)]


def dry(
    row: Row,
    c: SamplingContext,
    multiplier: float,
    base: float,
    allowed: int,
    breakers: list[int],
) -> Row:
    said = [*c.prompt, *c.output]

    def longest(token: int) -> int:
        """The longest end of the text that was followed by the token before, breakers apart."""
        found = 0
        for length in range(1, len(said)):
            end = said[len(said) - length :]
            if set(end) & set(breakers):
                break
            for at in range(len(said) - length):
                if said[at : at + length] == end and said[at + length] == token:
                    found = length
        return 0 if token in breakers else found

    return [
        x - multiplier * base ** (longest(i) - allowed) if longest(i) >= allowed else x
        for i, x in enumerate(row)
    ]


CASES: list[tuple[str, Callable[..., Row], dict[str, Any]]] = [
    ("temperature", temperature, {"temperature": 0.7}),
    ("temperature", temperature, {"temperature": 2.5}),
    ("top-k", top_k, {"k": 1}),
    ("top-k", top_k, {"k": 3}),
    ("top-k", top_k, {"k": 99}),
    ("top-p", top_p, {"p": 0.5}),
    ("top-p", top_p, {"p": 0.93}),
    ("top-p", top_p, {"p": 1.0}),
    ("min-p", min_p, {"p": 0.1}),
    ("min-p", min_p, {"p": 0}),
    ("typical", typical, {"p": 0.4}),
    ("typical", typical, {"p": 0.9}),
    ("top-n-sigma", top_n_sigma, {"n": 1.0}),
    ("top-n-sigma", top_n_sigma, {"n": 0.3}),
    ("xtc", xtc, {"probability": 0.5, "threshold": 0.1}),
    ("xtc", xtc, {"probability": 1.0, "threshold": 0.15}),
    ("repetition", repetition, {"penalty": 1.3}),
    ("repetition", repetition, {"penalty": 0.8, "last": 3}),
    ("presence", presence, {"penalty": 0.9}),
    ("frequency", frequency, {"penalty": 0.4}),
    ("logit-bias", logit_bias, {"bias": {"1": 2.5, "4": -100}}),
    ("min-length", min_length, {"tokens": 3}),
    ("bad-words", bad_words, {"words": [[2], [1, 1], [0, 1, 2]]}),
    ("no-repeat-ngram", no_repeat_ngram, {"n": 1}),
    ("no-repeat-ngram", no_repeat_ngram, {"n": 3}),
    ("dry", dry, {"multiplier": 0.8, "base": 1.75, "allowed": 2, "breakers": []}),
    ("dry", dry, {"multiplier": 0.5, "base": 1.2, "allowed": 1, "breakers": [2]}),
]

IDS = [f"{name} {options}" for name, _, options in CASES]

LOGITS = st.lists(
    st.integers(-40, 40).map(lambda x: x / 8) | st.just(-INF), min_size=6, max_size=8
).filter(lambda row: sum(x > -INF for x in row) >= 2)
TOKENS = st.lists(st.integers(0, 2) | st.integers(0, 5), max_size=14)


@pytest.mark.parametrize(("name", "plain", "options"), CASES, ids=IDS)
@settings(max_examples=60, derandomize=True, deadline=None)
@given(row=LOGITS, prompt=TOKENS, output=TOKENS, seed=st.integers(0, 2**64 - 1))
def test_a_transform_is_what_its_definition_says(
    name: str,
    plain: Callable[..., Row],
    options: dict[str, Any],
    row: Row,
    prompt: list[int],
    output: list[int],
    seed: int,
) -> None:
    context = SamplingContext(tuple(prompt), output, seed, frozenset({0, 5}))
    given_NV = np.array([row], np.float32)
    before = given_NV.copy()
    changed = ALL[name](**options)(given_NV, context)
    np.testing.assert_array_equal(given_NV, before, "it wrote into what it was given")
    assert changed.dtype == np.float32
    expected = np.array(plain(row, context, **options))
    if name in ("top-p", "typical") and _on_the_edge(row, name, options["p"]):
        return
    np.testing.assert_allclose(changed[0], expected, rtol=1e-5, atol=1e-5)


def _on_the_edge(row: Row, name: str, mass: float) -> bool:
    """Whether rounding may decide which token is the last one kept."""
    chances = [p for p in probabilities(row) if p]
    entropy = -sum(p * math.log(p) for p in chances)
    cost = [abs(-math.log(p) - entropy) if name == "typical" else -p for p in chances]
    order = sorted(range(len(chances)), key=lambda i: cost[i])
    sums = np.cumsum([chances[i] for i in order])
    ties = any(0 < abs(cost[a] - cost[b]) < 1e-6 for a, b in pairwise(order))
    return bool(np.min(np.abs(sums - mass)) < 1e-6) or ties


@pytest.mark.parametrize(("name", "plain", "options"), CASES, ids=IDS)
def test_a_transform_never_drops_everything_it_may_keep(
    name: str, plain: object, options: dict[str, Any]
) -> None:
    context = SamplingContext((3,), [4, 3], 1)
    row = np.full((1, 40), -np.inf, np.float32)
    row[0, 39] = 2.0
    assert np.isfinite(ALL[name](**options)(row, context)[0, 39])


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        (
            "temperature",
            {"temperature": 1e-46},
            "temperature must be at least 1e-06 and at most 100, not 1e-46",
        ),
        ("temperature", {"temperature": float("nan")}, "not nan"),
        ("top-k", {"k": 0}, "at least 1, not 0"),
        ("top-p", {"p": 1.2}, "at most 1, not 1.2"),
        ("top-p", {"p": 0}, "above 0"),
        ("min-p", {"p": -0.1}, "at least 0"),
        ("typical", {"p": "x"}, "not 'x'"),
        ("xtc", {"probability": 2}, "at most 1, not 2"),
        ("repetition", {"penalty": 0}, "above 0"),
        ("frequency", {"penalty": 101}, "at most 100"),
        ("logit-bias", {"bias": {"a": 1}}, "maps token ids to numbers"),
        ("logit-bias", {"bias": {"1": float("inf")}}, "finite"),
        ("logit-bias", {"bias": {"-1": 1}}, "from 0 up, not -1"),
        ("bad-words", {"words": [[]]}, "a word without tokens"),
        ("no-repeat-ngram", {"n": 0}, "at least 1"),
        ("dry", {"allowed": 0}, "at least 1"),
    ],
)
def test_options_out_of_bounds_are_refused(name: str, options: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionsError) as refused:
        ALL[name](**options)
    assert says in str(refused.value)


def test_top_p_of_a_large_vocabulary_is_that_of_the_whole_sorted() -> None:
    rng = np.random.default_rng(0)
    for spread in (0.1, 1.0, 4.0, 30.0):
        row = rng.normal(0, spread, 4000).astype(np.float32)
        for p in (0.3, 0.9, 0.999, 1.0):
            changed = TRANSFORMS["top-p"](p=p)(row[None], SamplingContext((), ()))[0]
            order = np.argsort(-row, kind="stable")
            chances = np.exp(row[order].astype(np.float64) - row.max())
            sums = np.cumsum(chances / chances.sum())
            count = min(len(row), 1 + int(np.searchsorted(sums, p)))
            assert abs(int(np.isfinite(changed).sum()) - count) <= (p == 1.0) * len(row)
            if p < 1:
                np.testing.assert_array_equal(
                    np.sort(np.flatnonzero(np.isfinite(changed))), np.sort(order[:count])
                )


# ------------------------------------------------------------------------- samplers


def sample(name: str, row: Row, number: float = 0.5, **options: Any) -> int:
    chosen = SAMPLERS[name](**options)(
        np.array([row], np.float32), np.array([number]), SamplingContext((), ())
    )
    return int(chosen[0])


def test_greedy_takes_the_first_of_the_likeliest() -> None:
    assert sample("greedy", [1.0, 3.0, 3.0, 2.0]) == 1


@settings(max_examples=200, derandomize=True, deadline=None)
@given(row=LOGITS, number=st.floats(0, 1, exclude_max=True))
def test_multinomial_reads_the_number_off_the_running_sum(row: Row, number: float) -> None:
    total, last = 0.0, 0
    for i, p in enumerate(probabilities(row)):
        if abs(total - number) < 1e-9:
            return  # rounding decides
        total += p
        if p:
            last = i
        if number < total:
            break
    assert sample("sample", row, number) == last


def test_multinomial_has_the_distribution() -> None:
    row = [0.0, 1.0, -INF, 2.0, -1.0]
    counts = [0] * 5
    draws = 20_000
    for index in range(draws):
        counts[sample("sample", row, uniform(3, index))] += 1
    chi2 = sum(
        (c - draws * p) ** 2 / (draws * p)
        for c, p in zip(counts, probabilities(row), strict=True)
        if p
    )
    assert counts[2] == 0
    assert chi2 < 16.27, "beyond the 0.999 quantile of chi-square with 3 degrees"


def test_forbidden_tokens_change_nothing_of_the_draw() -> None:
    rng = np.random.default_rng(2)
    for _ in range(200):
        row = rng.normal(0, 2, 50).astype(np.float32)
        wide = np.full(90, -np.inf, np.float32)
        where = np.sort(rng.choice(90, 50, replace=False))
        wide[where] = row
        number = rng.random()
        assert (
            sample("sample", wide.tolist(), number) == where[sample("sample", row.tolist(), number)]
        )


def test_mirostat_is_what_the_paper_says() -> None:
    rng = np.random.default_rng(1)
    sampler, mu = Mirostat(tau=3.0, eta=0.2), 6.0
    for index in range(60):
        row = rng.normal(0, 3, 40).astype(np.float32)
        number = uniform(1, index)
        token = int(sampler(row[None], np.array([number]), SamplingContext((), ()))[0])
        chances = probabilities(row.tolist())
        left = [i for i in range(40) if -math.log2(chances[i]) <= mu] or [int(row.argmax())]
        assert token == left[sample("sample", [float(row[i]) for i in left], number)]
        mass = sum(chances[i] for i in left)
        mu -= 0.2 * (-math.log2(chances[token] / mass) - 3.0)
        sampler.accept(token)
        assert sampler.mu == pytest.approx(mu)
    before = sampler.mu
    sampler(row[None], np.array([0.1]), SamplingContext((), ()))
    sampler.accept(3)
    sampler.rollback(1)
    assert sampler.mu == before


def test_mirostat_keeps_the_surprise_near_tau() -> None:
    rng = np.random.default_rng(4)
    row = rng.normal(0, 2, 2000).astype(np.float32)
    chances = probabilities(row.tolist())
    sampler, surprise = Mirostat(tau=4.0), []
    for index in range(800):
        token = int(sampler(row[None], np.array([uniform(9, index)]), SamplingContext((), ()))[0])
        sampler.accept(token)
        surprise.append(-math.log2(chances[token]))
    assert 3.0 < sum(surprise[200:]) / 600 < 6.0
    with pytest.raises(OptionsError):
        Mirostat(tau=0)


# --------------------------------------------------------------------- random numbers


def test_philox_gives_the_published_answers() -> None:
    """The known answers of Random123 for philox4x32-10."""
    full = 0xFFFFFFFF
    assert philox((0, 0, 0, 0), 0) == (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)
    assert philox((full, full, full, full), 2**64 - 1) == (
        0x408F276D,
        0x41C83B0E,
        0xA20BC7C6,
        0x6D5451FD,
    )
    assert philox((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), 0x299F31D0A4093822) == (
        0xD16CFE09,
        0x94FDCCEB,
        0x5001E420,
        0x24126EA1,
    )


def test_uniforms_are_uniform_and_streams_are_apart() -> None:
    draws = np.array([uniform(7, i) for i in range(4000)])
    others = np.array([uniform(7, i, 1) for i in range(4000)])
    assert 0 <= draws.min() < draws.max() < 1
    assert np.histogram(draws, 10, (0, 1))[0] == pytest.approx(400, rel=0.2)
    assert abs(np.corrcoef(draws, others)[0, 1]) < 0.05
    assert abs(np.corrcoef(draws[1:], draws[:-1])[0, 1]) < 0.05
