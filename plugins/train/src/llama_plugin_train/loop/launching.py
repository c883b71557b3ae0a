"""Starting the ranks of a run through whatever launcher the configuration names.

`torchrun` is here; others, for many machines, come with plugins of their own. A job that dies is
begun again, and its run goes on from the newest checkpoint.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llama_core.contracts.launcher import SPEC, Job, Launcher, RunningJob
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.loop.config import TrainConfig

RANK = "llama_plugin_train.loop.rank"


def start(
    config: TrainConfig,
    folder: Path,
    plugins: Plugins,
    *,
    overrides: Mapping[str, Any] | None = None,
    program: str = RANK,
) -> RunningJob:
    """All ranks of the run in a folder; `program` is the module that each of them is."""
    launcher: Launcher = plugins.create(SPEC, config.distributed.launcher)
    changed = [f"{word}={json.dumps(value)}" for word, value in (overrides or {}).items()]
    threads = config.train.threads or max(1, (os.cpu_count() or 1) // config.distributed.ranks)
    return launcher.launch(
        Job(
            (sys.executable, "-m", program, str(folder), *changed),
            config.distributed.ranks,
            {"OMP_NUM_THREADS": str(threads)},
            config.distributed.restarts,
        )
    )


class Torchrun:
    """torch's elastic agent, in a process of its own, for ranks on this machine."""

    def launch(self, job: Job) -> RunningJob:
        if shutil.which(job.argv[0]) is None:
            raise LlamaError(f"there is no program {job.argv[0]} to start")
        folder = Path(tempfile.mkdtemp(prefix="llama-train-job-"))
        about = {
            "argv": job.argv,
            "ranks": job.num_ranks,
            "restarts": job.max_restarts,
            "parent": os.getpid(),
            "codes": str(folder / "codes.json"),
        }
        agent = [sys.executable, "-m", "llama_plugin_train.loop.agent", json.dumps(about)]
        # In a session of its own: a terminal's Ctrl-C is for whoever waits for the job.
        process = subprocess.Popen(  # noqa: S603 (argv)
            agent, env={**os.environ, **job.env}, start_new_session=True
        )
        return _Agent(process, folder, job.num_ranks)


class _Agent:
    """A job of torchrun's; see `RunningJob`."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path, num_ranks: int) -> None:
        self._process, self._folder, self._num_ranks = process, folder, num_ranks
        self._codes: tuple[int, ...] | None = None

    def wait(self, timeout_seconds: float | None = None) -> tuple[int, ...] | None:
        """As the contract; of a job that failed, ranks that were ended by others' failure have
        the code of the signal that ended them."""
        if self._codes is not None:
            return self._codes
        try:
            code = self._process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        try:
            told: Sequence[int] = json.loads((self._folder / "codes.json").read_text())
            self._codes = tuple(told)
        except (OSError, ValueError):  # the agent itself was ended
            self._codes = (code or 1,) * self._num_ranks
        shutil.rmtree(self._folder, ignore_errors=True)
        return self._codes

    def stop(self, grace_seconds: float) -> None:
        from llama_plugin_train.loop.agent import KILL_SECONDS

        if self._process.poll() is None:
            self._process.terminate()
            try:  # the agent ends its ranks, at last by force
                self._process.wait(grace_seconds + 2 * KILL_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()


__all__ = ["RANK", "Torchrun", "start"]
