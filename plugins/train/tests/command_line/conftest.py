"""`llama train` as users run it: a process of its own, in a folder with something to learn."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")
if not entry_points(group="llama_core", name="train"):
    pytest.skip("llama-plugin-train is not installed", allow_module_level=True)

CONFIG = """
[model]
hidden_size = 16
intermediate_size = 32
num_layers = 1
num_heads = 2
num_kv_heads = 1
max_positions = 32

[tokenizer]
vocab_size = 280

[data]
length = 16

[[data.sources]]
name = "stories"
paths = ["stories.txt"]
separator = "\\n"

[[data.held_out]]
name = "unseen"
paths = ["unseen.txt"]
separator = "\\n"

[schedule]
name = "constant"
warmup_steps = 0

[train]
steps = 12
batch_size = 2
log_every = 1
device = "cpu"
threads = 1

[checkpoints]
every = 5

[evaluation]
every = 6
prompts = ["The fox"]
sample_tokens = 4
"""
WORDS = ["the", "fox", "saw", "a", "red", "bird", "in", "old", "trees", "and", "sang", "12", "7"]


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Llama:
    """The command in a folder of its own."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "project"
        self.folder.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_CORE_")}
        self.env = {
            **kept,
            "HOME": str(root),
            "XDG_CONFIG_HOME": str(root / "config"),
            "XDG_CACHE_HOME": str(root / "cache"),
            "COLUMNS": "200",
        }
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *args: str | Path) -> Done:
        return self.done(self.start(*args))

    def done(self, child: subprocess.Popen[str]) -> Done:
        """What a process came to that ends by itself."""
        out, _ = child.communicate(timeout=180)
        return Done(child.returncode, out, self.errors(child))

    def errors(self, child: subprocess.Popen[str]) -> str:
        return (self.folder / f"errors-{self.started.index(child)}.txt").read_text()

    def start(self, *args: str | Path) -> subprocess.Popen[str]:
        """Begin `llama train ARGS` and do not wait."""
        # A pipe that nobody reads would be full after a few hundred steps.
        with (self.folder / f"errors-{len(self.started)}.txt").open("w") as errors:
            child = subprocess.Popen(
                [sys.executable, "-m", "llama_core", "train", *map(str, args)],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=self.env,
                cwd=self.folder,
            )
        self.started.append(child)
        return child

    def end(self) -> None:
        for child in self.started:
            # Asked first, so that its ranks have ended too when the folder goes.
            with suppress(subprocess.TimeoutExpired):
                child.terminate()
                child.wait(30)
            child.kill()
            with child:  # closes its pipe, which a test that killed it has left open
                pass

    def listening(self, run: Path) -> Any:
        """A client of the run in a folder, once it listens."""
        from llama_plugin_train.control.client import Control, ControlError
        from llama_plugin_train.runs import RunError

        deadline = time.monotonic() + 120
        while True:
            try:
                control = Control.of(run)
                if control.state()["state"] == "running":
                    return control
            except (ControlError, RunError):
                assert all(child.poll() is None for child in self.started[-1:]), "it has ended"
            assert time.monotonic() < deadline, "the run does not listen"
            time.sleep(0.05)


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[Llama]:
    made = Llama(tmp_path)
    dice = random.Random(0)
    for name, count in (("stories.txt", 200), ("unseen.txt", 5)):
        lines = [" ".join(dice.choices(WORDS, k=dice.randint(3, 20))) + "." for _ in range(count)]
        (made.folder / name).write_text("\n".join(lines) + "\n")
    (made.folder / "config.toml").write_text(CONFIG)
    yield made
    made.end()
