"""Two ranks learn what one does, whatever each of them holds; and a rank that dies comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_train.loop.beginning import begin  # noqa: E402
from llama_plugin_train.loop.config import TrainConfig  # noqa: E402
from llama_plugin_train.loop.estimate import estimate  # noqa: E402
from llama_plugin_train.loop.launching import Torchrun  # noqa: E402
from llama_plugin_train.runs import Journal  # noqa: E402
from llama_plugin_train.runs.directory import effective  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from llama_core.contracts.launcher import Job  # noqa: E402
from llama_core.errors import LlamaError  # noqa: E402

PROGRAM = Path(__file__).with_name("one_rank.py")
WATCHDOG_SECONDS = 240
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="two ranks are tested on Linux")

Together = Callable[[TrainConfig, Path], None]


@pytest.fixture
def together() -> Any:
    """Run all ranks of a run in a folder, each in its own process."""
    running: list[subprocess.Popen[bytes]] = []

    def ran(config: TrainConfig, folder: Path) -> None:
        if not folder.exists():
            begin(config, folder).close()
        count = config.distributed.ranks
        (folder / "meeting").unlink(missing_ok=True)
        for rank in range(count):
            place = {"RANK": str(rank), "WORLD_SIZE": str(count), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, str(PROGRAM), str(folder)]
            running.append(subprocess.Popen(command, env={**os.environ, **place}))
        assert [one.wait(WATCHDOG_SECONDS) for one in running] == [0] * count
        running.clear()

    yield ran
    for one in running:
        one.kill()


def losses(folder: Path) -> dict[int, float]:
    records = effective(Journal(folder / "metrics.jsonl").read())
    return {one["step"]: one["last_loss"] for one in records if one.get("event") == "step"}


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model" / "model.safetensors")


@pytest.mark.parametrize("strategy", ["ddp", "fsdp", "tensor"])
def test_two_ranks_have_the_gradients_of_one(
    tiny: Any, together: Together, tmp_path: Path, strategy: str
) -> None:
    told = {"train.steps": 4, "train.accumulation": 2, "train.average": 0.9, "train.threads": 1}
    told |= {"evaluation.every": 2, "checkpoints.every": 2}
    one, two = tmp_path / "one", tmp_path / "two"
    together(tiny(told), one)
    spread = {"distributed.ranks": 2, "distributed.strategy": strategy}
    together(tiny(told | spread), two)
    ours, theirs = (load_file(at / "gradients.safetensors") for at in (two, one))
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-4, atol=1e-6, msg=name)
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    evaluated = [
        [
            each["loss"]
            for each in Journal(at / "metrics.jsonl").read()
            if each.get("event") == "evaluation"
        ]
        for at in (one, two)
    ]
    assert len(evaluated[0]) == 2
    assert evaluated[1] == pytest.approx(evaluated[0], abs=1e-4)
    for name, weight in weights(one).items():
        torch.testing.assert_close(weights(two)[name], weight, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize("strategy", ["fsdp", "tensor"])
def test_a_run_goes_on_with_other_ranks_than_it_began_with(
    tiny: Any, together: Together, tmp_path: Path, strategy: str, run: Any
) -> None:
    told = {"train.threads": 1, "schedule.name": "constant"}
    spread = {"distributed.ranks": 2, "distributed.strategy": strategy}
    whole = run(tiny(told), "whole")
    folder = tmp_path / "changing"
    together(tiny(told | spread | {"train.steps": 4}), folder)
    ended = run(tiny(told), "changing")
    assert ended.losses.keys() == {5, 6, 7, 8}
    assert {**losses(folder), **ended.losses} == pytest.approx(whole.losses, abs=1e-4)


def test_a_rank_that_is_killed_comes_back_and_the_run_ends_the_same(
    tiny: Any, together: Together, tmp_path: Path
) -> None:
    config = tiny({"distributed.ranks": 2, "train.threads": 1})
    whole, broken, mark = (tmp_path / name for name in ("whole", "broken", "mark"))
    together(config, whole)
    begin(config, broken).close()
    argv = (sys.executable, str(PROGRAM), str(broken), str(mark))
    job = Torchrun().launch(Job(argv, 2, {"OMP_NUM_THREADS": "1"}, max_restarts=2))
    try:
        assert job.wait(WATCHDOG_SECONDS) == (0, 0)
    finally:
        job.stop(1)
    assert mark.exists()
    records = list(Journal(broken / "metrics.jsonl").read())
    assert {"resumed_at": 3} in records
    assert losses(broken) == losses(whole)
    ours, theirs = weights(broken), weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_job_that_cannot_begin_or_end_well_says_so(tmp_path: Path) -> None:
    with pytest.raises(LlamaError, match="there is no program"):
        Torchrun().launch(Job(("/no/such/program",), 2))
    failing = Torchrun().launch(Job((sys.executable, "-c", "import sys; sys.exit(7)"), 1))
    assert failing.wait(0.0) is None
    assert failing.wait(WATCHDOG_SECONDS) == (7,)
    failing.stop(0)


def test_parts_of_a_model_take_parts_of_the_memory(tiny: Any) -> None:
    whole = estimate(tiny())
    parts = estimate(tiny({"distributed.ranks": 2, "distributed.strategy": "fsdp"}))
    assert parts.optimizer_bytes == whole.optimizer_bytes / 2
