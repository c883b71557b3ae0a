"""A run learns, tells what it does, ends as it should, and is the same when it is done again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop import events  # noqa: E402
from llama_plugin_train.loop.commands import Commands, EmergencyStop  # noqa: E402
from llama_plugin_train.models.export import load_folder  # noqa: E402
from llama_plugin_train.runs import CheckpointError  # noqa: E402

from llama_core.errors import LlamaError  # noqa: E402


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_tells(tiny: Any, run: Any) -> None:
    told = {"train.steps": 60, "evaluation.every": 20, "evaluation.prompts": ["the fox"]}
    told |= {"evaluation.sample_every": 30, "checkpoints.every": 25}
    ran = run(tiny(told))
    assert ran.outcome.reason == "finished"
    assert ran.outcome.step == 60
    losses = ran.losses
    assert list(losses) == list(range(1, 61))
    assert losses[60] < losses[1] - 1
    assert [one.step for one in ran.of(events.Evaluation)] == [20, 40, 60]
    assert ran.of(events.Evaluation)[-1].best
    assert [one.step for one in ran.of(events.Sample)] == [30, 60]
    assert [(one.step, one.reason) for one in ran.of(events.Checkpoint)] == [
        (25, "schedule"), (50, "schedule"), (60, "end"),
    ]  # fmt: skip
    assert len(ran.of(events.Started)) == 1
    assert isinstance(ran.events[-1], events.Ended)
    step = ran.of(events.Step)[-1]
    assert step.tokens == 60 * 4 * 24
    assert step.times.forward > 0
    assert step.times.backward > 0
    for event in ran.events:
        json.dumps(event.to_json(), allow_nan=False)


def test_flex_attention_is_refused_where_it_cannot_train(tiny: Any, run: Any) -> None:
    with pytest.raises(LlamaError, match="trains on GPUs alone, and this run has none"):
        run(tiny({"train.attention": "flex"}))


def test_the_rate_follows_the_schedule(tiny: Any, run: Any) -> None:
    config = tiny()
    ran = run(config)
    wanted = [0.01 * config.rates()(step) for step in range(8)]
    assert [one.rate for one in ran.of(events.Step)] == pytest.approx(wanted)


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"optimizer.name": "muon", "train.average": 0.9},
        {"train.accumulation": 2, "train.log_every": 3},
        {"train.dtype": "fp16"},
    ],
    ids=["adamw", "muon-average", "accumulated", "fp16"],
)
def test_a_run_ended_at_every_step_and_resumed_is_the_undisturbed_one(
    tiny: Any, run: Any, told: dict[str, Any]
) -> None:
    """The end is at once, between two steps, so what follows the last checkpoint is done again."""
    config = tiny(told)
    whole = run(config, "whole")
    broken = None
    losses: dict[int, float] = {}
    for at in range(1, 9):
        commands = Commands()
        commands.put(EmergencyStop(), at=at)
        broken = run(config, "broken", commands)
        losses |= broken.losses
    broken = run(config, "broken")
    losses |= broken.losses
    assert broken.outcome.reason == "finished"
    assert losses == whole.losses
    assert same(broken.weights(), whole.weights())
    ours, theirs = (ran.trainer.keeping._checkpoints.load(8) for ran in (broken, whole))
    assert same(ours[0], theirs[0])
    assert ours[1] == theirs[1]


def test_batches_together_are_one_larger_batch(tiny: Any, run: Any) -> None:
    apart = run(tiny({"train.batch_size": 2, "train.accumulation": 4}), "apart")
    together = run(tiny({"train.batch_size": 8}), "together")
    assert apart.losses == pytest.approx(together.losses, abs=1e-5)


@pytest.mark.parametrize(
    ("told", "near"),
    [
        ({"train.recompute": True}, 1e-6),
        ({"train.chunk": 7}, 1e-5),
        ({"train.dtype": "bf16"}, 0.1),
        ({"train.dtype": "fp16"}, 0.02),
    ],
    ids=str,
)
def test_ways_to_save_memory_learn_the_same(
    tiny: Any, run: Any, told: dict[str, Any], near: float
) -> None:
    plain, thrifty = run(tiny(), "plain"), run(tiny(told), "thrifty")
    assert thrifty.losses == pytest.approx(plain.losses, abs=near)
    assert thrifty.losses[8] < thrifty.losses[1]


@pytest.mark.slow
def test_a_compiled_model_learns_the_same(tiny: Any, run: Any) -> None:
    plain, compiled = run(tiny(), "plain"), run(tiny({"train.compile": True}), "compiled")
    assert compiled.losses == pytest.approx(plain.losses, abs=1e-3)


def test_no_better_evaluation_ends_the_run(tiny: Any, run: Any) -> None:
    told = {"evaluation.every": 1, "evaluation.patience": 2, "optimizer.rate": 1e-12}
    ran = run(tiny(told))
    assert ran.outcome.reason == "early"
    assert ran.outcome.step < 8
    assert ran.outcome.model is not None


def test_a_finished_run_is_finished_again_at_once(tiny: Any, run: Any) -> None:
    first, again = run(tiny()), run(tiny())
    assert again.outcome.reason == "finished"
    assert not again.losses
    assert same(first.weights(), again.weights())


def test_a_run_goes_on_for_longer_than_it_was_to(tiny: Any, run: Any) -> None:
    run(tiny({"schedule.name": "constant"}))
    longer = run(tiny({"schedule.name": "constant", "train.steps": 12}))
    whole = run(tiny({"schedule.name": "constant", "train.steps": 12}), "whole")
    assert list(longer.losses) == [9, 10, 11, 12]
    assert same(longer.weights(), whole.weights())


def test_the_export_is_the_model_or_its_average(tiny: Any, run: Any, core_logits: Any) -> None:
    ran = run(tiny({"train.average": 0.9}), "averaged")
    _, exported = load_folder(ran.outcome.model)
    assert not same(dict(exported.named_parameters()), ran.weights())
    with ran.trainer.parts.average.swapped():
        assert same(dict(exported.named_parameters()), ran.weights())
    bare = run(tiny({"train.average": 0.9, "train.export_average": False}), "bare")
    assert same(dict(load_folder(bare.outcome.model)[1].named_parameters()), bare.weights())
    tokens = [3, 50, 99, 7]
    wanted = exported.logits(torch.tensor([tokens]))[0].detach().numpy()
    assert abs(core_logits(ran.outcome.model, tokens) - wanted).max() < 1e-4
    assert (ran.outcome.model / "chat_template.jinja").is_file()


def test_fine_tuning_begins_from_a_folder_and_learns_answers_alone(
    tiny: Any, run: Any, words: Path
) -> None:
    base = run(tiny({"train.steps": 20}), "base")
    chats = {"name": "chats", "paths": [str(words / "chats.jsonl")], "packing": "whole"}
    told = {"model.start": str(base.outcome.model), "data.sources": [chats], "train.steps": 60}
    tuned = run(tiny(told), "tuned")
    before, after = tuned.losses[1], tuned.losses[60]
    assert after < before / 2
    weights = tuned.trainer.parts.feed._stream.next().weights_BT
    assert 0 < weights.sum() < weights.size / 2


def test_training_for_bits_exports_what_was_computed_with(tiny: Any, run: Any) -> None:
    ran = run(tiny({"train.quantize": "4", "train.steps": 20}))
    assert ran.losses[20] < ran.losses[1]
    _, stored = load_folder(ran.outcome.model)
    tokens = torch.tensor([[3, 50, 99, 7]])
    ours = ran.trainer.parts.model.logits(tokens)
    assert (stored.logits(tokens) - ours).abs().max() < 1e-4


def test_a_checkpoint_of_another_model_is_refused(tiny: Any, run: Any) -> None:
    run(tiny())
    with pytest.raises(CheckpointError, match=r"model.hidden_size is 16 there and 32 here"):
        run(tiny({"model.hidden_size": 32}))


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_taken_when_asked(
    tiny: Any, run: Any
) -> None:
    whole = run(tiny(), "whole")
    ran = run(tiny())
    part = next((ran.folder / "checkpoints" / "step-0000000008").glob("*.safetensors"))
    data = bytearray(part.read_bytes())
    data[-5] ^= 1
    part.write_bytes(data)
    with pytest.raises(LlamaError, match="step-0000000008/part.*damaged.*skip_damaged=true"):
        run(tiny())
    again = run(tiny({"checkpoints.skip_damaged": True}))
    assert list(again.losses) == [7, 8]
    assert same(again.weights(), whole.weights())


def test_checkpoints_in_the_background_are_the_same(tiny: Any, run: Any) -> None:
    told = {"checkpoints.background": True, "checkpoints.every": 1, "checkpoints.keep": 8}
    ran, plain = run(tiny(told)), run(tiny(), "plain")
    assert [one.step for one in ran.of(events.Checkpoint)] == list(range(1, 9))
    for step in (3, 6, 8):
        ours, theirs = (one.trainer.keeping._checkpoints for one in (ran, plain))
        if step in theirs.steps():
            assert same(ours.load(step)[0], theirs.load(step)[0])


@pytest.mark.parametrize("background", [True, False])
def test_a_save_that_fails_on_the_way_is_told_and_the_run_goes_on(
    tiny: Any, run: Any, background: bool
) -> None:
    def break_disk(trainer: Any) -> None:
        def failing(*given: Any) -> None:
            raise CheckpointError("the disk is full")

        opened = trainer._open

        def open_and_break() -> None:
            opened()
            real = trainer.keeping._checkpoints._save
            found = trainer.keeping._checkpoints
            found._save = lambda step, *more: (failing if step == 3 else real)(step, *more)

        trainer._open = open_and_break

    ran = run(tiny({"checkpoints.background": background}), prepare=break_disk)
    assert ran.outcome.reason == "finished"
    warned = ran.of(events.Warned)
    assert [(one.what, one.message) for one in warned] == [("checkpoint", "the disk is full")]
    assert [one.step for one in ran.of(events.Checkpoint)] == [6, 8]
