"""Beam search against one that asks for everything; best of several; the usual chain."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from llama_core.engine.chains import standard
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.faults import DeadlineExceeded, InvalidRequest
from llama_core.engine.request import Link
from llama_core.engine.search import beam_search, best_of

from .test_engine import reference_logprobs
from .toy import SAMPLED, Clock, Toy, ask, make


def plain_beams(
    prompt: tuple[int, ...], width: int, length: int, ends: set[int], penalty: float
) -> list[tuple[list[int], float]]:
    """Beam search without any shortcut: every continuation of every beam, to the very end."""
    live: list[tuple[list[int], float]] = [([], 0.0)]
    done: list[tuple[list[int], float]] = []
    for _ in range(length):
        grown = []
        for tokens, total in live:
            row = reference_logprobs([*prompt, *tokens])[-1]
            grown += [([*tokens, t], total + float(row[t])) for t in range(len(row))]
        grown.sort(key=lambda beam: -beam[1])
        done += [beam for beam in grown[:width] if beam[0][-1] in ends]
        live = [beam for beam in grown if beam[0][-1] not in ends][:width]
    ranked = sorted(done + live, key=lambda beam: -beam[1] / len(beam[0]) ** penalty)
    return ranked[:width]


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("width", [1, 2, 5])
@pytest.mark.parametrize("ends", [set(), {3}, {4, 9}], ids=str)
def test_beams_are_those_of_a_plain_search(width: int, ends: set[int], penalty: float) -> None:
    with ThreadedEngine(make(Toy(256))) as face:
        for start in range(3):
            prompt = (1, 2, start)
            request = ask(prompt=prompt, max_tokens=5)
            found = beam_search(face, request, width, ends=frozenset(ends), length_penalty=penalty)
            expected = plain_beams(prompt, width, 5, ends, penalty)
            assert [list(b.tokens) for b in found] == [tokens for tokens, _ in expected]
            assert [b.logprob for b in found] == [pytest.approx(total) for _, total in expected]


def test_a_beam_obeys_the_transforms() -> None:
    banned = Link("logit-bias", {"bias": {str(t): -100 for t in range(16)}})
    with ThreadedEngine(make()) as face:
        found = beam_search(face, ask(max_tokens=4, transforms=(banned,)), 3)
        assert all(t >= 16 for beam in found for t in beam.tokens)
        repeated = beam_search(
            face, ask(max_tokens=6, transforms=(Link("no-repeat-ngram", {"n": 1}),)), 2
        )
        assert all(len(set(b.tokens) | {1, 2, 3}) == 6 + 3 for b in repeated)


def test_impossible_searches_are_refused() -> None:
    with ThreadedEngine(make()) as face:
        for width in (0, 17):
            with pytest.raises(InvalidRequest, match="width must be from 1 to 16"):
                beam_search(face, ask(), width)
        with pytest.raises(InvalidRequest, match="needs max_tokens"):
            beam_search(face, ask(max_tokens=None), 2)
        with pytest.raises(InvalidRequest, match="best_of must be at least n = 3, not 2"):
            best_of(face, ask(n=3), 2)
        with pytest.raises(InvalidRequest, match="best_of = 65 .*: n must be from 1 to 64") as no:
            best_of(face, ask(), 65)
        assert no.value.param == "best_of"


def test_a_deadline_is_for_the_whole_search() -> None:
    clock = Clock()

    def ticking() -> float:
        clock.now += 1.0
        return clock.now

    with ThreadedEngine(make()) as face:
        request = ask(max_tokens=8, deadline_seconds=60.0)
        assert len(beam_search(face, request, 2, clock=ticking)) == 2
        late = ask(max_tokens=8, deadline_seconds=5.0)
        with pytest.raises(DeadlineExceeded, match="deadline of 5.0 s"):
            beam_search(face, late, 2, clock=ticking)


def test_the_best_of_several_are_the_likeliest_of_them() -> None:
    request = ask(seed=5, **SAMPLED)
    with ThreadedEngine(make()) as face:
        everyone = face.generate(ask(seed=5, n=6, logprobs=0, **SAMPLED)).choices
        best = best_of(face, ask(seed=5, n=2, **SAMPLED), 6)
        assert best_of(face, request, 1)[0].tokens == face.generate(request).choices[0].tokens
    ranked = sorted(everyone, key=lambda c: -np.mean([p.logprob for p in c.logprobs]))
    assert [c.tokens for c in best] == [c.tokens for c in ranked[:2]]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["sample"]),
        ({"temperature": 0, "top_p": 0.5}, ["greedy"]),
        ({"temperature": 0, "presence_penalty": 1}, ["presence", "greedy"]),
        (
            {"min_p": 0.1, "top_p": 0.9, "top_k": 4, "temperature": 0.5, "frequency_penalty": 1},
            ["frequency", "temperature", "top-k", "top-p", "min-p", "sample"],
        ),
        (
            {
                "repetition_penalty": 1.2,
                "logit_bias": {"3": 1.0},
                "no_repeat_ngram": 3,
                "min_tokens": 2,
                "bad_words": [[1]],
                "typical_p": 0.9,
                "top_n_sigma": 1.0,
            },
            [
                "repetition",
                "logit-bias",
                "no-repeat-ngram",
                "min-length",
                "bad-words",
                "top-n-sigma",
                "typical",
                "sample",
            ],
        ),
    ],
)
def test_the_usual_parameters_become_one_order_of_links(
    options: dict[str, Any], names: list[str]
) -> None:
    transforms, sampler = standard(**options)
    assert [link.name for link in (*transforms, sampler)] == names
    with ThreadedEngine(make()) as face:
        answer = face.generate(ask(transforms=transforms, sampler=sampler)).choices[0]
    assert len(answer.tokens) == 8
