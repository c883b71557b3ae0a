"""Every hostile wheel is refused by its rule, in one line, and runs nothing."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from llama_marketplace.wheels import WheelRefused, inspect

from .hostile import HOSTILE


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_wheel_is_refused_by_its_rule(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reason = HOSTILE[what]
    canary = tmp_path / "canary"
    monkeypatch.setenv("CANARY", str(canary))
    wheel = made.write(tmp_path / "dist")
    before, began = set(sys.modules), time.monotonic()
    with pytest.raises(WheelRefused) as caught:
        inspect(wheel)
    assert caught.value.reason == reason, caught.value
    assert str(caught.value).isprintable()
    assert wheel.name in str(caught.value)
    assert len(str(caught.value)) < 600
    assert caught.value.to_dict()["reason"] == reason
    assert not canary.exists()
    assert not [name for name in set(sys.modules) - before if "rhyme" in name]
    assert time.monotonic() - began < 20  # a watchdog: each takes milliseconds
    assert [each.name for each in tmp_path.rglob("*") if each.is_file()] == [wheel.name]


def test_there_are_enough_of_them() -> None:
    assert len(HOSTILE) >= 60
