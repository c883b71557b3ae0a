"""A drafter makes an answer faster and never another; masks that remember go along with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from llama_core.builtin.ngram import NgramLookup
from llama_core.contracts.drafter import DraftRequest
from llama_core.contracts.step import Batch
from llama_core.engine.request import Link, Params, Request
from llama_core.errors import OptionsError

from .toy import SAMPLED, Sampling, Toy, ask, create, drain, make, run


class Repeats(Toy):
    """Sees only two tokens back, so that it soon goes in circles and is easy to guess."""

    def __init__(self, **options: Any) -> None:
        super().__init__(windows=(2,), num_blocks=128, vocab_size=5, **options)


class Oracle:
    """Guesses what it was told, right or wrong, and hears what became of it."""

    def __init__(self, answer: Sequence[int] = (), wrong_at: frozenset[int] = frozenset()) -> None:
        self.answer = answer
        self.wrong_at = wrong_at
        self.heard: list[tuple[Any, ...]] = []

    def propose(self, requests: Sequence[DraftRequest]) -> list[list[int]]:
        guesses = []
        for request in requests:
            at = len(request.tokens) - 3
            guess = [
                (t + 1) % 32 if i in self.wrong_at else t
                for i, t in enumerate(self.answer[at : at + request.most], at)
            ]
            self.heard.append(("propose", request.sequence, len(request.tokens), list(guess)))
            guesses.append(guess)
        return guesses

    def truncate(self, sequence: int, length: int) -> None:
        self.heard.append(("truncate", sequence, length))

    def release(self, sequence: int) -> None:
        self.heard.append(("release", sequence))


@pytest.mark.parametrize("options", [{}, SAMPLED, {"logprobs": 2, **SAMPLED}], ids=["g", "s", "lp"])
def test_an_answer_is_the_same_with_and_without_drafts(options: Any) -> None:
    for seed in range(10):
        request = ask(max_tokens=40, seed=seed, **options)
        plain = run(make(Repeats(), max_length=64), request)["r", 0]
        toy = Repeats()
        engine = make(toy, max_length=64, drafter=NgramLookup(longest=3, shortest=1))
        drafted = run(engine, request)["r", 0]
        assert drafted.tokens == plain.tokens
        assert [p for u in drafted.updates for p in u.logprobs] == [
            p for u in plain.updates for p in u.logprobs
        ]
        if not options:
            assert engine.drafting.num_accepted > 0
            assert toy.num_steps < 40, "right guesses save steps"


def test_a_right_guess_saves_its_step_and_is_not_computed_again() -> None:
    answer = run(make(), ask(max_tokens=21))["r", 0].tokens
    toy = Toy()
    engine = make(toy, drafter=Oracle(answer), most_drafts=4)
    assert run(engine, ask(max_tokens=21))["r", 0].tokens == answer
    assert toy.num_steps == 1 + 20 // 5
    assert toy.num_rows == 3 + 20


def test_the_drafter_hears_what_stands() -> None:
    answer = run(make(), ask(max_tokens=8))["r", 0].tokens
    oracle = Oracle(answer, wrong_at=frozenset({3}))
    run(make(drafter=oracle, most_drafts=4), ask(max_tokens=8))
    proposed = oracle.heard[0]
    assert proposed[:3] == ("propose", 1, 4)
    assert oracle.heard[1] == ("truncate", 1, 4 + 2), "two of four guesses stand"
    assert oracle.heard[-1] == ("release", 1)


def test_the_distribution_is_exact() -> None:
    """Chi-square of the first three drawn tokens over many seeds, drafts against the definition."""
    chain = (Link("temperature", {"temperature": 1.3}),)
    program = Repeats()
    engine = make(program, drafter=NgramLookup(longest=2, shortest=1), max_sequences=64)
    draws = 3000
    for seed in range(draws):
        params = Params(max_tokens=3, seed=seed, transforms=chain, sampler=Link("sample"))
        engine.add(Request(f"r{seed}", (1, 2, 1, 2, 1), params))
    found: dict[str, list[int]] = {}
    for update in drain(engine):
        found.setdefault(update.request_id, []).extend(update.tokens)
    assert engine.drafting.num_accepted > draws / 20
    counts = Counter(tuple(tokens) for tokens in found.values())
    chi2, cells = 0.0, 0
    for triple, p in expected_triples((1, 2, 1, 2, 1)).items():
        due = draws * p
        if due >= 5:
            chi2 += (counts.pop(triple, 0) - due) ** 2 / due
            cells += 1
    assert cells > 30
    assert chi2 < cells + 4 * np.sqrt(2 * cells), (chi2, cells)


def expected_triples(prompt: tuple[int, ...]) -> dict[tuple[int, ...], float]:
    chances = {(): 1.0}
    for _ in range(3):
        longer = {}
        for tokens, p in chances.items():
            row = last_logits([*prompt, *tokens]) / 1.3
            weights = np.exp(row - row.max())
            for token, weight in enumerate(weights / weights.sum()):
                longer[(*tokens, token)] = p * float(weight)
        chances = longer
    return chances


def last_logits(tokens: list[int]) -> NDArray[np.float64]:
    count = len(tokens)
    batch = Batch(
        np.array(tokens, np.int32),
        np.arange(count, dtype=np.int32),
        np.array([0, count], np.int32),
        ((list(range(count)),),),
        np.array([0] * (count - 1) + [1], np.uint8),
    )
    logits = Repeats().submit(batch).result().logits_RV
    assert logits is not None
    return logits[0].astype(np.float64)


def test_drafts_are_verified_where_the_program_samples_too() -> None:
    class Device(Sampling):
        def __init__(self) -> None:
            super().__init__(windows=(2,), num_blocks=128, vocab_size=5)

    sampled = {"transforms": (Link("top-k", {"k": 2}),), "sampler": Link("sample")}
    for seed in range(5):
        request = ask(max_tokens=40, seed=seed, **sampled)
        plain = run(make(Repeats(), max_length=64), request)["r", 0]
        engine = make(Device(), max_length=64, drafter=NgramLookup(longest=3, shortest=1))
        assert run(engine, request)["r", 0].tokens == plain.tokens
        assert engine.drafting.num_accepted > 0


# ------------------------------------------------------------------- a mask with memory


class Alternate:
    """A grammar of its own: even and odd tokens take turns. It remembers, and can take back."""

    def __init__(self) -> None:
        self.said: list[int] = []

    def __call__(self, logits_NV: NDArray[np.float32], context: Any) -> NDArray[np.float32]:
        said = len(context.output)
        assert self.said[:said] == list(context.output), "it was told too little or too much"
        odd = bool(self.said) and self.said[-1] % 2 == 0
        masked = np.full_like(logits_NV, -np.inf)
        masked[:, int(odd) :: 2] = logits_NV[:, int(odd) :: 2]
        return masked

    def accept(self, token: int) -> None:
        self.said.append(token)

    def rollback(self, count: int) -> None:
        del self.said[len(self.said) - count :]


def with_mask(kind: str, name: str, options: Any) -> Any:
    return Alternate() if name == "alternate" else create(kind, name, options)


@pytest.mark.parametrize("sampled", [False, True])
def test_a_mask_with_memory_holds_with_drafts_and_preemption(sampled: bool) -> None:
    chain: dict[str, Any] = {"transforms": (Link("alternate"),)}
    if sampled:
        chain = {
            "transforms": (Link("alternate"), *SAMPLED["transforms"]),
            "sampler": Link("sample"),
        }
    rejected = 0
    for seed in range(6):
        request = ask(max_tokens=30, seed=seed, n=2, **chain)
        plain = run(make(Toy(128), create=with_mask, max_length=64), request)
        tight = Toy(18)
        engine = make(tight, create=with_mask, max_length=64, drafter=NgramLookup(2, 1), max_rows=9)
        engine.add(ask("other", (5, 6, 5, 6, 5), max_tokens=40))
        drafted = run(engine, request)
        for choice in range(2):
            tokens = drafted["r", choice].tokens
            assert tokens == plain["r", choice].tokens
            assert [t % 2 for t in tokens] == [i % 2 for i in range(30)]
        rejected += engine.drafting.num_draft_tokens - engine.drafting.num_accepted
    assert rejected > 0


def test_drafts_that_a_mask_forbids_are_not_computed() -> None:
    answer = run(make(create=with_mask), ask(transforms=(Link("alternate"),)))["r", 0].tokens
    wrong = [*answer[:3], answer[3] + 1 - 2 * (answer[3] % 2), *answer[4:]]
    toy = Toy()
    engine = make(toy, create=with_mask, drafter=Oracle(wrong), most_drafts=4)
    assert run(engine, ask(transforms=(Link("alternate"),)))["r", 0].tokens == answer
    assert engine.drafting.num_accepted == engine.drafting.num_draft_tokens


def test_a_mask_that_fails_on_drafts_ends_its_own_request_only() -> None:
    class Fragile(Alternate):
        def rollback(self, count: int) -> None:
            raise ValueError("cannot")

    def fragile(kind: str, name: str, options: Any) -> Any:
        return Fragile() if name == "alternate" else create(kind, name, options)

    answer = run(make(), ask(max_tokens=8))["r", 0].tokens
    engine = make(create=fragile, drafter=Oracle(answer))
    answers = run(engine, ask("bad", transforms=(Link("alternate"),)), ask("good"))
    assert "transform Fragile failed: on the drafts" in str(answers["bad", 0].error)
    assert answers["good", 0].tokens == answer


# ------------------------------------------------------------------------ bad drafters


class Bad:
    def __init__(self, how: str) -> None:
        self.how = how

    def propose(self, requests: Sequence[DraftRequest]) -> Any:
        if self.how == "raises":
            raise RuntimeError("oh")
        if self.how == "exits":
            raise SystemExit("oh")
        one = {"many": [1] * 99, "foreign": [1, 99], "text": ["a"], "good": [1]}.get(self.how, [1])
        return [] if self.how == "few" else [one for _ in requests]

    def truncate(self, sequence: int, length: int) -> None:
        if self.how == "truncate":
            raise RuntimeError("oh")

    def release(self, sequence: int) -> None:
        if self.how == "release":
            raise RuntimeError("oh")


@pytest.mark.parametrize(
    "how", ["raises", "exits", "many", "foreign", "text", "few", "truncate", "release"]
)
def test_a_bad_drafter_is_put_out_of_use_and_named(how: str) -> None:
    engine = make(drafter=Bad(how))
    answer = run(engine, ask())["r", 0]
    assert answer.tokens == run(make(), ask())["r", 0].tokens
    assert engine.drafting.fault is not None
    assert "drafter Bad failed" in engine.drafting.fault


# ---------------------------------------------------------------------- n-gram lookup


def test_lookup_repeats_what_followed_before() -> None:
    drafter = NgramLookup(longest=3, shortest=2)
    tokens = [1, 2, 3, 4, 5, 9, 2, 3]
    assert drafter.propose([DraftRequest(1, tokens, 3)]) == [[4, 5, 9]]
    tokens += [4]
    assert drafter.propose([DraftRequest(1, tokens, 2)]) == [[5, 9]]
    tokens += [7, 8]
    assert drafter.propose([DraftRequest(1, tokens, 2)]) == [[]]
    drafter.release(1)
    assert not drafter._indexes
    assert drafter.propose([DraftRequest(2, [1], 4), DraftRequest(3, [1, 2, 1, 2], 4)]) == [
        [],
        [1, 2],
    ]
    with pytest.raises(OptionsError):
        NgramLookup(longest=1, shortest=2)
