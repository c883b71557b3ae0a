"""The usual parameters as a chain, and what of them cannot be meant together."""

from __future__ import annotations

import pytest

from llama_core.engine.chains import contradiction, standard
from llama_core.engine.request import Link

DRY, MIN_P, MIRO = Link("dry"), Link("min-p"), Link("mirostat", {"tau": 3})


def test_what_is_neutral_is_left_out_and_ones_own_comes_last() -> None:
    assert standard() == ((), Link("sample"))
    assert standard(temperature=0, top_k=3) == ((), Link("greedy"))
    transforms, sampler = standard(temperature=0.5, top_k=3, transforms=[DRY, MIN_P], sampler=MIRO)
    assert [link.name for link in transforms] == ["temperature", "top-k", "dry", "min-p"]
    assert sampler is MIRO
    assert standard(temperature=0, transforms=[DRY]) == ((DRY,), Link("greedy"))


@pytest.mark.parametrize(
    ("said", "temperature", "transforms", "sampler", "is_argmax", "why"),
    [
        (["top-k"], 0, [], None, False, "top-k does nothing at temperature 0"),
        (["temperature", "min_p"], 0, [], None, False, "min_p does nothing at temperature 0"),
        (["seed"], 0, [DRY, MIN_P], None, False, "transform 'min-p' does nothing at temperature 0"),
        (["temperature"], 0, [], MIRO, False, "temperature 0 takes the likeliest token, and"),
        (["temperature"], 0.5, [], MIRO, True, "temperature does nothing: sampler 'mirostat'"),
        ([], 1, [MIN_P], MIRO, True, "transform 'min-p' does nothing: sampler 'mirostat'"),
        (["top-k", "temperature"], 0.5, [MIN_P], None, False, None),
        (["top-k", "temperature"], 0.5, [MIN_P], MIRO, False, None),
        (["temperature", "repetition-penalty"], 0, [DRY], None, False, None),
        (["repetition-penalty"], 1, [DRY], MIRO, True, None),
    ],
)
def test_what_contradicts_itself_or_does_nothing_is_said(
    said: list[str],
    temperature: float,
    transforms: list[Link],
    sampler: Link | None,
    is_argmax: bool,
    why: str | None,
) -> None:
    found = contradiction(said, temperature, transforms, sampler, is_argmax=is_argmax)
    assert (found is None) == (why is None)
    assert found is None or found.startswith(why or "")
