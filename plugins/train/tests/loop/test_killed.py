"""A run whose process is killed at any step goes on as if nothing had been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop.beginning import begin  # noqa: E402
from llama_plugin_train.runs import Journal  # noqa: E402
from llama_plugin_train.runs.directory import effective  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

_PROGRAM = """
import os, signal, sys
from pathlib import Path
from llama_plugin_train.loop import rank, trainer
at, after = int(sys.argv[2]), trainer.Trainer._after
def dying(self):
    if self.state.step == at:
        os.kill(os.getpid(), signal.SIGKILL)
    after(self)
trainer.Trainer._after = dying
sys.exit(rank.main(sys.argv[1:2]))
"""


def killed_at(folder: Path, step: int) -> int:
    """The exit code of a process that goes on with the run, and is killed in a step."""
    command = [sys.executable, "-c", _PROGRAM, str(folder), str(step)]
    return subprocess.run(command, timeout=240, check=False).returncode


def losses(folder: Path) -> dict[int, float]:
    records = effective(Journal(folder / "metrics.jsonl").read())
    return {one["step"]: one["last_loss"] for one in records if one.get("event") == "step"}


@pytest.mark.parametrize(
    "steps",
    [pytest.param([4], id="sampled"), pytest.param(range(1, 9), id="all", marks=pytest.mark.slow)],
)
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="nothing is killed on Windows")
def test_killed_in_a_step(tiny: Any, tmp_path: Path, steps: Any) -> None:
    told = {"train.average": 0.9, "checkpoints.background": True, "train.threads": 1}
    config = tiny(told)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    begin(config, whole).close()
    begin(config, broken).close()
    assert killed_at(whole, 0) == 0
    for step in steps:
        assert killed_at(broken, step) == -signal.SIGKILL
    assert killed_at(broken, 0) == 0
    assert losses(broken) == losses(whole)
    ours, theirs = (load_file(at / "model" / "model.safetensors") for at in (broken, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    kept = [sorted(os.listdir(at / "checkpoints")) for at in (broken, whole)]
    assert kept[0] == kept[1]
