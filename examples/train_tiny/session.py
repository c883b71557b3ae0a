"""A run that a program steers, and that does the same again afterwards.

    python examples/train_tiny/session.py [RUN]

It begins the run of config.toml, pauses it, lowers its rate, saves, goes on, and stops it at once
as one would in an emergency. Then it goes on from the checkpoint and compares: what was changed on
the way is made again, so every step has the loss that it had.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from llama_plugin_train.control.client import Control

from llama_core.errors import LlamaError

CONFIG = Path(__file__).parent / "config.toml"
WAIT = 60.0  # seconds for an answer
STEPS = 20  # between the change and the emergency


def begin(*arguments: str | Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "llama_core", "train", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603


def control_of(run: Path, process: subprocess.Popen[bytes]) -> Control:
    """The run, as soon as it listens."""
    while True:
        try:
            control = Control.of(run)
            if control.state()["state"] == "running":
                return control
        except LlamaError:
            if process.poll() is not None:
                raise
        time.sleep(0.1)


def losses(run: Path) -> list[dict[int, float]]:
    """By step, apart for each time that the run was begun or gone on with."""
    found: list[dict[int, float]] = [{}]
    for line in (run / "metrics.jsonl").read_text("utf-8").splitlines():
        record = json.loads(line)
        if "resumed_at" in record:
            found.append({})
        elif record["event"] == "step":
            found[-1][record["step"]] = record["last_loss"]
    return found


def session(run: Path) -> None:
    first = begin(CONFIG, "--run", run, "--set", "train.log_every=1")
    control = control_of(run, first)
    at = control.tell("pause", wait_seconds=WAIT)["step"]
    print(f"paused after step {at}")
    control.tell("set", {"learning_rate": 0.001}, wait_seconds=WAIT)
    control.tell("save", wait_seconds=WAIT)
    print(f"at step {at} the rate is 0.001, and a checkpoint is saved")
    control.tell("emergency_stop", at=at + STEPS)
    control.tell("resume", wait_seconds=WAIT)
    first.wait()
    print(f"stopped at once after step {at + STEPS}")

    second = begin("--resume", run)
    control_of(run, second).tell("stop", at=at + STEPS)
    second.wait()
    before, after = losses(run)
    again = {step: after.get(step) for step in before if step > at}
    same = sum(before[step] == loss for step, loss in again.items())
    print(f"gone on from step {at}: {same} of {len(again)} losses are the same")
    if same < len(again):
        sys.exit(1)


if __name__ == "__main__":
    try:
        if len(sys.argv) > 1:
            session(Path(sys.argv[1]))
        else:
            with tempfile.TemporaryDirectory() as folder:
                session(Path(folder) / "run")
    except LlamaError as error:
        sys.exit(f"error: {error}")
