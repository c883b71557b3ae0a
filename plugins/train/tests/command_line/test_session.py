"""A run that is steered while it runs, and does the same again afterwards."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .conftest import Llama

LONG = ("--run", "run", "--max-steps", "1000000", "--set", "checkpoints.every=0")
LONG += ("--set", "evaluation.every=0")


def losses(run: Path) -> list[dict[int, float]]:
    """By step, apart for each time that the run was begun or gone on with."""
    found: list[dict[int, float]] = [{}]
    for each in (run / "metrics.jsonl").read_text().splitlines():
        record = json.loads(each)
        if "resumed_at" in record:
            found.append({})
        elif record["event"] == "step":
            found[-1][record["step"]] = record["last_loss"]
    return found


def told(run: Path, kind: str) -> list[Any]:
    records = [json.loads(each) for each in (run / "metrics.jsonl").read_text().splitlines()]
    return [one for one in records if one.get("event") == kind]


def test_pause_change_resume_emergency_stop_and_the_same_losses_again(llama: Llama) -> None:
    run = llama.folder / "run"
    child = llama.start("config.toml", *LONG, "--json")
    control = llama.listening(run)

    paused = llama("pause", "run", "--at", "3", "--json").json
    at = paused["step"]
    assert paused["reply"] == "done"
    assert llama("status", "run", "--json").json["state"] == "paused"
    changed = llama("set", "run", "learning_rate=0.004", "accumulation=2", "--json").json
    assert (changed["reply"], changed["step"]) == ("done", at)
    assert llama("save", "run", "--json").json["step"] == at

    control.tell("pause", at=at + 9)
    assert control.tell("resume", wait_seconds=60)["step"] == at
    second = control.tell("set", {"clip": 0.01}, at=at + 9, wait_seconds=60)
    assert (second["reply"], second["step"]) == ("done", at + 9)
    control.tell("emergency_stop", at=at + 13)
    control.tell("resume")
    done = llama.done(child)
    assert done.code == 0, done.err
    facts = done.json
    assert (facts["reason"], facts["step"], facts["model"]) == ("emergency", at + 13, None)
    assert not (run / "control.json").exists()

    ended = llama("status", "run", "--json").json
    assert (ended["state"], ended["ended"]["reason"]) == ("ended", "emergency")
    again = llama("--resume", "run", "--max-steps", str(at + 15), "--json")
    assert again.code == 0, again.err
    assert (again.json["reason"], again.json["step"]) == ("finished", at + 15)
    first, resumed = losses(run)
    assert min(resumed) == at + 1
    recorded = {step: loss for step, loss in first.items() if step > at}
    assert len(recorded) == 13
    assert recorded == {step: loss for step, loss in resumed.items() if step <= at + 13}
    replayed = [(one["step"], one["arguments"]) for one in told(run, "change") if one["replayed"]]
    assert replayed == [
        (at, {"learning_rate": 0.004, "accumulation": 2}),
        (at + 9, {"clip": 0.01}),
    ]
    rates = {one["step"]: one["rate"] for one in told(run, "step")}
    assert (rates[at], rates[at + 1]) == (0.001, 0.004)
    assert (run / "model" / "model.safetensors").is_file()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_saves_a_checkpoint_and_ends(llama: Llama) -> None:
    child = llama.start("config.toml", *LONG, "--json")
    llama.listening(llama.folder / "run")
    child.send_signal(signal.SIGINT)
    done = llama.done(child)
    assert done.code == 0, done.err
    facts = done.json
    assert facts["reason"] == "stopped"
    (saved,) = [one for one in told(llama.folder / "run", "checkpoint") if one["reason"] == "end"]
    assert saved["step"] == facts["step"]
    assert "stopping after this step" in done.err


def test_a_run_that_was_killed_says_so_and_goes_on(llama: Llama) -> None:
    run = llama.folder / "run"
    child = llama.start("config.toml", *LONG)
    control = llama.listening(run)
    saved = control.tell("save", wait_seconds=60)["step"]
    child.kill()
    child.wait(60)
    assert (run / "control.json").is_file()  # nobody was left to take it away
    stands = llama("status", "run", "--json")
    assert stands.code == 0
    assert stands.json["state"] == "interrupted"
    assert f"process {child.pid} is gone without a word" in stands.json["note"]
    pause = llama("pause", "run", "--json")
    assert (pause.code, pause.json["error"]["code"]) == (1, "not_running")
    assert "llama train --resume run" in pause.json["error"]["remedy"]
    again = llama("--resume", "run", "--max-steps", str(saved + 2), "--json")
    assert (again.code, again.json["step"]) == (0, saved + 2), again.err


def test_what_can_be_asked_while_it_runs(llama: Llama) -> None:
    run = llama.folder / "run"
    child = llama.start("config.toml", *LONG)
    control = llama.listening(run)
    measured = llama("evaluate", "run", "--json").json
    assert measured["reply"] == "done"
    assert [one["perplexity"] > 1 for one in measured["evaluations"]] == [True]
    assert control.state()["latest"]["evaluation"]["perplexity"] > 1
    wrote = llama("sample", "run", "The red", "--json").json
    assert [one["prompt"] for one in wrote["samples"]] == ["The red"]
    told = llama("status", "run")
    assert told.out.startswith(f"run: running, process {child.pid}\n")
    assert "loss " in told.out
    second = llama("--resume", "run")
    assert second.code == 1
    assert "is in use by another process" in second.err
    near = llama("set", "run", "learning-rat=0.1", "--json")
    assert (near.code, near.json["error"]["code"]) == (2, "usage")
    assert "did you mean 'learning_rate'?" in near.err.lower()
    wait = llama("pause", "run", "--at", "999999", "--wait", "0")
    assert wait.out == "pause: received; it takes effect when its step comes\n"
    assert llama("stop", "run", "--json").json["reply"] == "done"
    assert llama.done(child).code == 0


@pytest.mark.skipif(sys.platform != "linux", reason="two ranks are tested on Linux")
def test_two_ranks_are_steered_and_stopped_like_one(llama: Llama) -> None:
    run = llama.folder / "run"
    child = llama.start("config.toml", *LONG, "--set", "distributed.ranks=2", "--json")
    control = llama.listening(run)
    changed = control.tell("set", {"learning_rate": 0.004}, wait_seconds=60)
    assert changed["reply"] == "done"
    child.send_signal(signal.SIGINT)
    done = llama.done(child)
    assert done.code == 0, done.err
    assert (done.json["reason"], done.json["model"]) == ("stopped", None)
    (saved,) = told(run, "checkpoint")
    assert saved["step"] == done.json["step"] > changed["step"]
    assert told(run, "started")[0]["ranks"] == 2


def descendants(process: int) -> set[int]:
    """The processes that one started, and that those did."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended since
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, new = set(), {process}
    while new:
        new = {one for one, parent in parents.items() if parent in new}
        found |= new
    return found


def lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="two ranks are tested on Linux")
def test_the_ranks_of_a_command_that_is_killed_end_with_it(llama: Llama) -> None:
    run = llama.folder / "run"
    child = llama.start("config.toml", *LONG, "--set", "distributed.ranks=2")
    control = llama.listening(run)
    saved = control.tell("save", wait_seconds=60)["step"]
    started = descendants(child.pid)
    assert len(started) == 3, "the agent and two ranks"
    assert control.state()["process"] in started
    child.kill()
    child.wait(60)
    deadline = time.monotonic() + 30
    while any(map(lives, started)):
        assert time.monotonic() < deadline, "the ranks outlive the command"
        time.sleep(0.1)
    again = llama("--resume", "run", "--max-steps", str(saved + 2), "--json")
    assert (again.code, again.json["step"]) == (0, saved + 2), again.err
