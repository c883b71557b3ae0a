"""Steps that go wrong are skipped and told; when too many do, the run goes back and on."""

from __future__ import annotations

import math
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop import events  # noqa: E402
from llama_plugin_train.loop.feed import Batch  # noqa: E402
from llama_plugin_train.loop.guard import Guard  # noqa: E402
from llama_plugin_train.loop.trainer import Trainer  # noqa: E402
from llama_plugin_train.runs.faults import RunError  # noqa: E402


def spoiled(by: float, rows: range) -> Any:
    """A change of a trainer: batches of these numbers have their losses multiplied."""

    def prepare(trainer: Trainer) -> None:
        opened = trainer._open

        def open_and_spoil() -> None:
            opened()
            feed, size = trainer.parts.feed, trainer.config.train.batch_size
            take = feed.take

            def taken(count: int) -> list[Batch]:
                found = take(count)
                for one in found:
                    if one.row // size in rows:
                        one.weights_BT.mul_(by)
                return found

            feed.take = taken  # type: ignore[method-assign]

        trainer._open = open_and_spoil  # type: ignore[method-assign]

    return prepare


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_gradient_that_is_no_number_is_skipped_and_told(
    tiny: Any, run: Any, optimizer: str
) -> None:
    told = {"optimizer.name": optimizer}
    spoilt = run(tiny(told), prepare=spoiled(math.nan, range(5, 6)))
    assert spoilt.outcome.reason == "finished"
    warned = spoilt.of(events.Warned)
    assert [(one.step, one.what) for one in warned] == [(5, "nan")]
    assert "a step was skipped" in warned[0].message
    assert all(one.isfinite().all() for one in spoilt.weights().values())
    assert math.isnan(spoilt.losses[5])
    assert math.isfinite(spoilt.losses[6])
    assert spoilt.of(events.Step)[4].to_json()["loss"] is None


def test_a_spike_is_skipped_and_told(tiny: Any, run: Any) -> None:
    told = {"train.steps": 40}
    spoilt = run(tiny(told), prepare=spoiled(1e4, range(30, 31)))
    assert [(one.step, one.what) for one in spoilt.of(events.Warned)] == [(30, "spike")]
    never = run(tiny({**told, "train.spike": 0}), "never", prepare=spoiled(1e4, range(30, 31)))
    assert not never.of(events.Warned)


def test_after_many_skipped_steps_the_run_goes_back_and_on_with_other_data(
    tiny: Any, run: Any
) -> None:
    told = {"train.rollback_after": 3, "train.steps": 12}
    spoilt = run(tiny(told), prepare=spoiled(math.nan, range(5, 8)))
    assert spoilt.outcome.reason == "finished"
    back = [one for one in spoilt.of(events.Warned) if one.what == "rollback"]
    assert [one.step for one in back] == [6]
    assert "3 steps in a row were skipped: back from step 7 to 6" in back[0].message
    steps = [one.step for one in spoilt.of(events.Step)]
    assert steps == [*range(1, 8), *range(7, 13)]
    assert spoilt.trainer.parts.feed.row == 13 * 4


def test_a_loss_that_rises_goes_back(tiny: Any, run: Any) -> None:
    told = {"train.loss_spike": 5.0, "train.spike": 0, "train.steps": 12}
    spoilt = run(tiny(told), prepare=spoiled(100.0, range(8, 9)))
    back = [one for one in spoilt.of(events.Warned) if one.what == "rollback"]
    assert [one.step for one in back] == [6]
    assert "the loss rose to" in back[0].message


def test_with_nothing_to_go_back_to_the_run_fails_and_says_so(tiny: Any, run: Any) -> None:
    told = {"train.rollback_after": 2, "checkpoints.every": 0}
    with pytest.raises(RunError, match="there is no checkpoint to go back to"):
        run(tiny(told), prepare=spoiled(math.nan, range(3, 9)))


def test_going_back_too_often_fails_and_is_told(tiny: Any, run: Any) -> None:
    told = {"train.rollback_after": 2, "train.rollbacks": 1, "train.steps": 30}
    ran = run(tiny(told), prepare=spoiled(math.nan, range(5, 99)), fails=RunError)
    assert ran.outcome is None
    ended = ran.of(events.Ended)[0]
    assert ended.reason == "failed"
    assert "went back as often as it may: 1" in ended.error


def test_fp16_finds_its_scale() -> None:
    guard = Guard(torch.device("cpu"), spike=0, scaled=True)
    infinite, fine = torch.tensor(math.inf), torch.tensor(65536.0)
    for _ in range(3):
        _, bad = guard.admit(infinite, 1.0)
        assert bad == 1
    assert guard.scale == 65536 / 8
    divisor, bad = guard.admit(fine, 1.0)
    assert bad == 0
    assert divisor == 65536  # of 8 unscaled, shortened to 1
    for _ in range(1999):
        guard.admit(fine, 0)
    assert guard.scale == 65536 / 4
    numbers = guard.read()
    assert (numbers["overflow"], numbers["nan"], numbers["in_a_row"]) == (3, 0, 0)


def test_what_has_become_usual_is_let_through() -> None:
    guard = Guard(torch.device("cpu"), spike=3, scaled=False)
    for _ in range(30):
        guard.admit(torch.tensor(1.0), 0)
    skipped = 0
    while guard.admit(torch.tensor(5.0), 0)[1] == 1:
        skipped += 1
    assert 5 < skipped < 40
