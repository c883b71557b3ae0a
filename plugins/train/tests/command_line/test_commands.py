"""`llama train` from a configuration to a model, and what it says where something is wrong."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from llama_core.engine.load import load
from llama_core.plugins import Plugins

from .conftest import Llama


def test_a_run_ends_with_a_model_that_runs(llama: Llama) -> None:
    done = llama("config.toml", "--json", "--tensorboard")
    assert done.code == 0, done.err
    run = llama.folder / "runs" / "config"
    assert done.json == {
        "run": "runs/config",
        "reason": "finished",
        "step": 12,
        "loss": done.json["loss"],
        "model": str(Path("runs/config/model")),
    }
    assert {one.name for one in (run / "checkpoints").iterdir()}
    records = [json.loads(each) for each in (run / "metrics.jsonl").read_text().splitlines()]
    told = [one["event"] for one in records]
    kinds = [one for one in told if one != "preparing"]  # which is told where it takes a while
    assert kinds[0] == "started"
    assert kinds[-1] == "ended"
    assert kinds.count("step") == 12
    assert kinds.count("evaluation") == 2
    assert kinds.count("checkpoint") == 3  # steps 5 and 10, and the end
    assert list((run / "tensorboard").iterdir())
    shown = done.err.splitlines()
    assert any(each.startswith("runs/config begins: ") for each in shown)
    assert not any("\x1b" in each for each in shown)

    with load(str(run / "model"), plugins=Plugins.load(), backend="reference") as loaded:
        assert loaded.program.vocab_size == 280

    second = llama("config.toml", "--max-steps", "1")
    assert second.code == 0, second.err
    assert second.out.splitlines()[0].startswith("runs/config-2: finished at step 1")
    assert "runs/config is there, so this run goes into runs/config-2" in second.err
    assert "llama train --resume runs/config\n" in second.err
    over = llama("status", "runs/config")
    assert over.out.startswith("runs/config: ended\nstep 12 of 12, 100%\n")
    assert "not running" not in over.out, "a run that is finished needs no advice"


def test_data_alone_is_enough(llama: Llama) -> None:
    sizes = ("hidden_size=16", "intermediate_size=32", "num_layers=1", "num_heads=2")
    small = [each for size in (*sizes, "num_kv_heads=1") for each in ("--set", f"model.{size}")]
    words = ("data.length=16", "tokenizer.vocab_size=270", "train.batch_size=2")
    words += ("schedule.warmup_steps=0",)
    small += [each for word in words for each in ("--set", word)]
    done = llama("--data", "stories.txt", "--max-steps", "2", *small, "--json")
    assert done.code == 0, done.err
    assert (done.json["run"], done.json["step"]) == ("runs/stories", 2)


def test_init_writes_what_train_reads(llama: Llama) -> None:
    done = llama("init", "new.toml")
    assert done.code == 0, done.err
    text = (llama.folder / "new.toml").read_text()
    assert tomllib.loads(text)["train"]["steps"] > 0
    assert llama("init", "-").out == text
    again = llama("init", "new.toml")
    assert again.code == 1
    assert "new.toml is there already" in again.err
    assert (llama.folder / "new.toml").read_text() == text


def test_a_dry_run_says_what_it_would_take_and_makes_nothing(llama: Llama) -> None:
    done = llama("config.toml", "--dry-run", "--json")
    assert done.code == 0, done.err
    facts = done.json
    assert facts["tokens"] == 12 * facts["tokens_per_step"] == 12 * 2 * 16
    assert facts["memory_bytes"] > facts["weights_bytes"] == 4 * facts["parameters"]
    assert facts["seconds"] > 0
    assert (facts["vocab_size"], facts["vocab_size_known"]) == (280, False)
    assert facts["source_bytes"] == (llama.folder / "stories.txt").stat().st_size
    assert not (llama.folder / "runs").exists()
    words = llama("config.toml", "--dry-run").out
    assert "if the texts give the 280 tokens that are asked for" in words
    assert [each.split()[0] for each in words.splitlines()] == [
        "model", "tokens", "sources", "memory", "disk", "time",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 2, "Usage"),
        (["--max-steps", "3"], 2, "give a configuration, or --data"),
        (["missing.toml"], 1, "cannot read missing.toml"),
        (["config.toml", "--set", "train.stepz=3"], 2, "did you mean 'steps'?"),
        (["config.toml", "--set", "train.steps=0"], 2, "train.steps is 0"),
        (["config.toml", "--set", "train.steps"], 2, "is no SECTION.WORD=VALUE"),
        (["config.toml", "--set", "model.hidden_size=17"], 2, "hidden_size"),
        (["config.toml", "--set", "model.hidden_size=16000000"], 1, "memory"),
        (["config.toml", "--resume", "run"], 2, "CONFIG does nothing with --resume"),
        (["--resume", "nothing"], 1, "nothing holds no run"),
        (["status", "nothing"], 1, "nothing holds no run"),
        (["pause", "nothing"], 1, "nothing holds no run"),
        (["set", "nothing", "clip"], 2, "is no NAME=NUMBER"),
        (["set", "nothing", "learning-rat=1"], 2, "did you mean 'learning_rate'?"),
        (["set", "nothing", "learning_rate=11"], 2, "it is from 0 to 10"),
        (["broken.toml", "--set", "train.steps=3"], 1, "did you mean 'length'?"),
        (["config.toml", "--data", "missing"], 2, "missing"),
    ],
)
def test_what_is_wrong_is_said(llama: Llama, arguments: list[str], code: int, words: str) -> None:
    (llama.folder / "broken.toml").write_text("[data]\nlenght = 3\n")
    done = llama(*arguments)
    assert done.code == code, done.err
    assert words.lower() in (done.err + done.out).lower()
    assert "Traceback" not in done.err


def test_what_a_run_was_told_when_it_went_on_is_remembered(llama: Llama) -> None:
    assert llama("config.toml", "--max-steps", "1", "--run", "run").code == 0
    told = ("--max-steps", "2", "--set", "train.log_every=1")
    assert llama("--resume", "run", *told, "--json").json["step"] == 2
    again = llama("--resume", "run", "--max-steps", "3", "--json")
    assert again.json["step"] == 3
    assert "as this run was told before: train.log_every=1" in again.err
    planned = llama("--resume", "run", "--dry-run", "--json")
    assert planned.json["steps"] == 3
    assert planned.json["vocab_size_known"] is True
    assert "train.steps=3" in planned.err


def test_what_cannot_change_in_a_run_is_said(llama: Llama) -> None:
    assert llama("config.toml", "--max-steps", "1", "--run", "run").code == 0
    done = llama("--resume", "run", "--set", "data.length=8")
    assert done.code == 1
    assert "data.length cannot be changed in a run that has begun" in done.err
    dial = llama("--resume", "run", "--set", "optimizer.rate=0.01")
    assert dial.code == 1
    assert "llama train set run learning_rate=0.01" in dial.err
    taken = llama("config.toml", "--run", "run")
    assert taken.code == 1
    assert "is there already and not empty" in taken.err


def test_a_run_that_never_took_a_step_is_in_nobodys_way(llama: Llama) -> None:
    texts = llama.folder / "texts.jsonl"
    texts.write_text('{"body": "no such field is asked for"}\n')
    told = ("--data", str(texts), "--max-steps", "120", "--run", "run")
    refused = llama(*told)
    assert refused.code == 1
    assert "body" in refused.err
    texts.write_text('{"text": "the cat sat on the mat"}\n' * 3000)
    again = llama(*told, "--max-steps", "1", "--set", "schedule.warmup_steps=0")
    assert "holds a run that never took a step: it begins anew" in again.err
    assert again.code == 0, again.err


def test_help_needs_no_torch(llama: Llama) -> None:
    import subprocess
    import sys

    told = (
        "import sys\n"
        "from llama_plugin_train.cli.command import train\n"
        "train.main(sys.argv[1:], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules\n"
        "assert 'uvicorn' not in sys.modules\n"
    )
    for arguments in (["--help"], ["status", "--help"], ["init", "-"]):
        done = subprocess.run(
            [sys.executable, "-c", told, *arguments], capture_output=True, text=True, env=llama.env
        )
        assert done.returncode == 0, done.stderr
