"""Rotary tables against the formulas written out number by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from llama_core.errors import ConfigError
from llama_core.model import rope
from llama_core.model.architectures.config import TextConfig

BASE = {
    "vocab_size": 8,
    "hidden_size": 64,
    "intermediate_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "max_position_embeddings": 4096,
}


def plain(pair: int, dim: int, theta: float) -> float:
    return theta ** (-2 * pair / dim)


def llama3(pair: int, dim: int, theta: float) -> float:
    rate = plain(pair, dim, theta)
    turns = 512 * rate / (2 * math.pi)
    if turns < 1:
        return rate / 8
    if turns > 4:
        return rate
    mix = (turns - 1) / 3
    return (1 - mix) * rate / 8 + mix * rate


def yarn(pair: int, dim: int, theta: float) -> float:
    def at(turns: float) -> float:
        return dim * math.log(1024 / (turns * 2 * math.pi)) / (2 * math.log(theta))

    low, high = max(math.floor(at(32)), 0), min(math.ceil(at(1)), dim - 1)
    slow = min(max((pair - low) / (high - low), 0), 1)
    rate = plain(pair, dim, theta)
    return rate / 4 * slow + rate * (1 - slow)


@pytest.mark.parametrize(
    ("scaling", "rate", "factor"),
    [
        (None, plain, 1.0),
        ({"type": "default"}, plain, 1.0),
        ({"type": "linear", "factor": 4}, lambda *a: plain(*a) / 4, 1.0),
        (
            {
                "rope_type": "llama3",
                "factor": 8,
                "low_freq_factor": 1,
                "high_freq_factor": 4,
                "original_max_position_embeddings": 512,
            },
            llama3,
            1.0,
        ),
        (
            {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 1024},
            yarn,
            0.1 * math.log(4) + 1,
        ),
        (
            {"rope_type": "yarn", "original_max_position_embeddings": 1024, "attention_factor": 3},
            yarn,
            3.0,
        ),
    ],
)
def test_angles(
    scaling: Mapping[str, Any] | None, rate: Callable[..., float], factor: float
) -> None:
    made = TextConfig.model_validate({**BASE, "rope_scaling": scaling, "rope_theta": 5e5}).rope()
    positions = np.array([0, 1, 17, 900])
    cos, sin = rope.table(made.theta, made.rotary_dim, made.scaling, positions)
    assert cos.shape == (4, 8)
    for row, position in enumerate(positions):
        for pair in range(8):
            angle = position * rate(pair, 16, 5e5)
            assert cos[row, pair] == pytest.approx(factor * math.cos(angle), abs=2e-4)
            assert sin[row, pair] == pytest.approx(factor * math.sin(angle), abs=2e-4)


def test_dynamic_grows_with_the_position_and_with_nothing_else() -> None:
    given = {
        **BASE,
        "max_position_embeddings": 32,
        "rope_scaling": {"type": "dynamic", "factor": 2},
    }
    made = TextConfig.model_validate(given).rope()
    all_at_once = rope.table(made.theta, 16, made.scaling, np.arange(64))
    for position in (0, 31, 32, 50, 63):
        alone = rope.table(made.theta, 16, made.scaling, np.array([position]))
        assert np.array_equal(alone[0][0], all_at_once[0][position])
        length = max(position + 1, 32)
        theta = 1e4 * (2 * length / 32 - 1) ** (16 / 14)
        expected = [math.cos(position * plain(pair, 16, theta)) for pair in range(8)]
        assert np.allclose(alone[0][0], expected, atol=1e-5)


@pytest.mark.parametrize(("context", "first"), [(128, 1.0), (129, 3.0)])
def test_longrope_chooses_once_by_context(context: int, first: float) -> None:
    scaling = {"type": "su", "short_factor": [1.0] * 8, "long_factor": [3.0] * 8}
    made = TextConfig.model_validate(
        {
            **BASE,
            "rope_scaling": scaling,
            "original_max_position_embeddings": 128,
            "context_length": context,
        }
    ).rope()
    assert made.scaling["factors"] == (first,) * 8
    assert made.scaling["attention_factor"] == pytest.approx(
        math.sqrt(1 + math.log(32) / math.log(128))
    )


LLAMA3 = {"type": "llama3", "factor": 2, "low_freq_factor": 1.0, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    ("scaling", "why"),
    [
        ({"type": "linnear", "factor": 2}, "did you mean 'linear'"),
        ({"type": "linear"}, "needs factor"),
        ({"type": "linear", "factor": "many"}, "many"),
        ({"type": "llama3", "factor": 2}, "needs low_freq_factor, high_freq_factor"),
        (
            {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]},
            "1 factors for 8 pairs",
        ),
        ({"type": ["linear"]}, "wrong"),
        ({**LLAMA3, "low_freq_factor": 1e300, "high_freq_factor": 1e301}, "overflow"),
        (
            {**LLAMA3, "high_freq_factor": 1.0, "original_max_position_embeddings": 10**30},
            "low_freq_factor 1 must be below high_freq_factor 1",
        ),
        ({"type": "yarn", "factor": 2, "attention_factor": 1e300}, "rope"),
        ({"rope_theta": 1e308}, "theta 1e+308"),
        ({"rope_theta": 1e-320}, "theta 1e-320"),
    ],
)
def test_a_scaling_that_cannot_be_is_refused(scaling: Mapping[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match="rope") as caught:
        TextConfig.model_validate({**BASE, "rope_scaling": scaling}).rope()
    assert why in str(caught.value)
