"""What is told to a run takes effect between two steps, is recorded, and done again on replay."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop import events  # noqa: E402
from llama_plugin_train.loop.commands import (  # noqa: E402
    DIALS,
    KINDS,
    Commands,
    EmergencyStop,
    Evaluate,
    Pause,
    Resume,
    Sample,
    Save,
    Set,
    Stop,
    make,
)

from llama_core.errors import ConfigError  # noqa: E402


def told(*commands: tuple[int, Any]) -> Commands:
    queue = Commands()
    for at, command in commands:
        queue.put(command, at=at)
    return queue


def test_dials_turn_at_their_step(tiny: Any, run: Any) -> None:
    turned = Set(id="a", values={"learning_rate": 0.002, "accumulation": 2, "clip": 0.5})
    ran = run(tiny({"schedule.name": "constant"}), commands=told((4, turned)))
    rates = [one.rate for one in ran.of(events.Step)]
    assert rates[2:] == pytest.approx([0.01, 0.01, *[0.002] * 4])
    assert ran.of(events.Step)[-1].tokens == (4 + 2 * 4) * 4 * 24
    changed = ran.of(events.Changed)[0]
    assert (changed.step, changed.id, changed.error) == (4, "a", None)
    assert changed.arguments == {"learning_rate": 0.002, "accumulation": 2, "clip": 0.5}


def test_a_resumed_run_is_given_the_same_changes(tiny: Any, run: Any) -> None:
    """Set before step 5, ended before the checkpoint that would have held it: told by the log."""
    config = tiny()
    rate = Set(values={"learning_rate": 0.05})
    whole = run(config, "whole", told((4, rate)))
    broken = run(config, "broken", told((4, rate), (5, EmergencyStop())))
    resumed = run(config, "broken")
    assert {**broken.losses, **resumed.losses} == whole.losses
    assert [(one.step, one.replayed) for one in resumed.of(events.Changed)] == [(4, True)]
    plain = run(config, "plain")
    assert plain.losses[6] != whole.losses[6]


def test_while_it_does_again_what_it_did_nothing_else_can_be_set(tiny: Any, run: Any) -> None:
    config = tiny()
    run(config, "run", told((5, Set(values={"clip": 0.1})), (5, EmergencyStop())))
    resumed = run(config, "run", told((4, Set(id="x", values={"clip": 0.7}))))
    refused, replayed = resumed.of(events.Changed)
    assert "nothing can be set before step 5" in refused.error
    assert replayed.replayed
    assert resumed.trainer.state.dials.clip == 0.1


def test_stop_keeps_a_checkpoint_and_emergency_stop_does_not(tiny: Any, run: Any) -> None:
    stopped = run(tiny(), "stopped", told((4, Stop())))
    assert (stopped.outcome.reason, stopped.outcome.model) == ("stopped", None)
    assert [one.step for one in stopped.of(events.Checkpoint)] == [3, 4]
    ended = run(tiny(), "ended", told((4, EmergencyStop())))
    assert ended.outcome.reason == "emergency"
    assert [one.step for one in ended.of(events.Checkpoint)] == [3]
    assert run(tiny(), "stopped").losses == {
        step: loss for step, loss in run(tiny(), "whole").losses.items() if step > 4
    }


def test_save_evaluate_and_sample_now(tiny: Any, run: Any) -> None:
    commands = told((2, Save()), (4, Evaluate()), (5, Sample(prompt="a red")))
    ran = run(tiny({"checkpoints.every": 0}), commands=commands)
    assert [one.step for one in ran.of(events.Checkpoint)] == [2, 8]
    assert [one.step for one in ran.of(events.Evaluation)] == [4]
    assert [(one.step, one.prompt) for one in ran.of(events.Sample)] == [(5, "a red")]


def test_a_command_that_cannot_be_done_is_answered_and_the_run_goes_on(tiny: Any, run: Any) -> None:
    ran = run(tiny({"data.held_out": []}), commands=told((4, Evaluate(id="e"))))
    assert ran.outcome.reason == "finished"
    assert "nothing to measure" in ran.of(events.Changed)[0].error


def test_a_paused_run_waits_and_still_hears(tiny: Any, run: Any) -> None:
    commands = told((3, Pause()))

    def hear(event: events.Event) -> None:
        if isinstance(event, events.Paused):
            later = threading.Timer(0.05, lambda: commands.put(Set(values={"clip": 0.3})))
            later.start()
        elif isinstance(event, events.Changed) and event.command == "set":
            commands.put(Resume())

    ran = run(tiny(), commands=commands, on_event=hear)
    assert [one.command for one in ran.of(events.Changed)] == ["pause", "set", "resume"]
    assert {one.step for one in ran.of(events.Changed)} == {3}
    assert ran.outcome.reason == "finished"
    assert ran.losses.keys() == set(range(1, 9))


def test_a_paused_run_can_be_ended(tiny: Any, run: Any) -> None:
    ran = run(tiny(), commands=told((3, Pause()), (3, EmergencyStop())))
    assert (ran.outcome.reason, ran.outcome.step) == ("emergency", 3)


def test_samples_and_evaluations_change_no_number(tiny: Any, run: Any) -> None:
    told_ = {"evaluation.every": 1, "evaluation.sample_every": 1, "evaluation.prompts": ["the"]}
    told_ |= {"evaluation.temperature": 1.0, "train.average": 0.9}
    looked, plain = run(tiny(told_), "looked"), run(tiny({"train.average": 0.9}), "plain")
    assert looked.losses == plain.losses


@pytest.mark.parametrize(
    ("name", "arguments", "complaint"),
    [
        ("puase", {}, "did you mean 'pause'"),
        ("set", {}, "nothing is set"),
        ("set", {"learnin_rate": 1}, "did you mean 'learning_rate'"),
        ("set", {"learning_rate": math.nan}, "from 0 to 10"),
        ("set", {"learning_rate": -1}, "from 0 to 10"),
        ("set", {"learning_rate": "fast"}, "it is a number"),
        ("set", {"accumulation": 2.5}, "it is a whole number"),
        ("set", {"accumulation": True}, "it is a whole number"),
        ("sample", {"prompt": 3}, "is a text"),
        ("stop", {"now": True}, "'stop' takes no 'now'"),
    ],
)
def test_nonsense_is_refused_with_what_would_do(
    name: str, arguments: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(name, arguments)
    assert complaint.lower() in str(caught.value).lower()


def test_every_dial_turns_something(tiny: Any, run: Any) -> None:
    trainer = run(tiny({"train.steps": 3})).trainer
    for dial in DIALS:
        trainer.turn({dial: 3})
        assert getattr(trainer.state.dials, dial) == 3
    assert set(KINDS) == {
        "pause", "resume", "stop", "emergency_stop", "save", "evaluate", "sample", "set",
    }  # fmt: skip
