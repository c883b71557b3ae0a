"""Schedules are pure functions, and these are their values."""

from __future__ import annotations

import math

import pytest

pytest.importorskip("torch", reason="torch is not installed")  # where this plugin is not either

from llama_plugin_train.optimizing.schedules import Schedule

from llama_core.errors import ConfigError


def test_cosine() -> None:
    schedule = Schedule(name="cosine", steps=101, warmup_steps=0, floor=0.1)
    assert schedule(0) == 1.0
    assert schedule(25) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert schedule(50) == pytest.approx(0.55)
    assert schedule(100) == pytest.approx(0.1)
    assert schedule(5000) == pytest.approx(0.1)


@pytest.mark.parametrize("name", ["constant", "cosine", "wsd"])
def test_warm_up_is_linear_and_starts_above_zero(name: str) -> None:
    schedule = Schedule(name=name, steps=100, warmup_steps=10, decay_steps=20)
    assert [schedule(step) for step in range(10)] == [(step + 1) / 10 for step in range(10)]
    assert schedule(10) == 1.0


def test_warm_up_stay_decay() -> None:
    schedule = Schedule(name="wsd", steps=100, warmup_steps=10, decay_steps=21, floor=0.0)
    assert {schedule(step) for step in range(9, 80)} == {1.0}
    assert schedule(89) == pytest.approx(0.5)
    assert schedule(99) == 0.0
    steady = Schedule(name="wsd", steps=100)
    assert {steady(step) for step in range(200)} == {1.0}


def test_constant() -> None:
    assert {Schedule(name="constant", steps=5)(step) for step in range(9)} == {1.0}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"name": "cosin", "steps": 10}, "cosine"),
        ({"steps": 0}, "counts backwards"),
        ({"steps": 10, "warmup_steps": 8, "decay_steps": 3}, "do not fit"),
        ({"steps": 10, "floor": 1.5}, "1.5"),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Schedule(**given)
