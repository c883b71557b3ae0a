"""What is trained, on which tokens, and the processes of the sides, each of which stands still
while another is timed."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from report import environment

HERE = Path(__file__).parent
PATIENCE = 900  # seconds that an answer may take
RATE, SEED = 3e-4, 1


@dataclass(frozen=True, slots=True)
class Size:
    """A model, and the rows of one step."""

    model: Mapping[str, Any]
    rows: int
    length: int

    @property
    def tokens(self) -> int:
        return self.rows * self.length


def _model(gpt: bool, *sizes: int) -> dict[str, Any]:
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_layers", "num_heads")
    return {"gpt": gpt, "max_positions": 1024, **dict(zip(names, sizes, strict=True))}


LLAMA = _model(False, 32000, 288, 768, 6, 6)
GPT = _model(True, 50304, 768, 3072, 12, 12)
SIZES = {
    "15m": Size(LLAMA, 16, 256),
    "124m": Size(GPT, 8, 512),
}
ON_GPU = {"124m": Size(GPT, 64, 1024)}


def write(folder: Path, size: Size, steps: int) -> None:
    """Text for so many steps that has something to learn, its tokenizer, and its tokens as scripts
    read them.

    Words come as often as in a language (Zipf), and every second one follows from that before it.
    """
    dice = np.random.default_rng(0)
    words, count = size.model["vocab_size"], size.tokens * steps + 1
    drawn = np.minimum(dice.zipf(1.3, count), words - 1)
    tokens = np.where(dice.random(count) < 0.5, drawn, 1 + np.roll(drawn, 1) % (words - 1))
    tokens.astype(np.uint16).tofile(folder / "tokens.bin")
    (folder / "text.txt").write_text(" ".join(map(str, tokens)), "utf-8")
    end = "<|endoftext|>"
    vocabulary = {end: 0} | {str(number): number for number in range(1, words)}
    special = {"id": 0, "content": end, "special": True, "single_word": False, "lstrip": False}
    made = {
        "version": "1.0", "truncation": None, "padding": None, "normalizer": None,
        "added_tokens": [special | {"rstrip": False, "normalized": False}],
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": None, "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": end},
    }  # fmt: skip
    (folder / "tokenizer.json").write_text(json.dumps(made), "utf-8")


def config(folder: Path, size: Size, device: str, **train: Any) -> dict[str, Any]:
    """A run of ours, equal to what the scripts do."""
    model = {name: value for name, value in size.model.items() if name not in ("gpt", "vocab_size")}
    if size.model["gpt"]:
        model |= {"positions": "learned", "norm": "layer", "mlp": "gelu", "bias": True}
    ranks = train.pop("ranks", 1)
    return {
        "model": model,
        "tokenizer": {"path": str(folder)},
        "data": {
            "length": size.length,
            "shuffle": False,
            "cache": str(folder / "shards"),
            "sources": [{"paths": [str(folder / "text.txt")]}],
        },
        "optimizer": {"rate": RATE},
        "schedule": {"name": "constant", "warmup_steps": 0},
        "train": {"batch_size": size.rows, "steps": 1 << 30, "log_every": 1, "device": device}
        | {"seed": SEED, "compile": device == "cuda"}
        | train,
        "checkpoints": {"every": 0},
        "distributed": {"ranks": ranks},
    }


class Side:
    """A child process. It has done one step when it is made."""

    def __init__(
        self, python: Path, name: str, folder: Path, size: Size,
        *, threads: int = 2, device: str = "cpu", seed: int = SEED, **train: Any,
    ) -> None:  # fmt: skip
        ranks = train.get("ranks", 1)
        job = {
            "side": name, "threads": threads, "device": device, "seed": seed, "rate": RATE,
            "tokens": str(folder / "tokens.bin"), "model": dict(size.model), "rows": size.rows,
            "length": size.length,
        }  # fmt: skip
        if name == "ours":
            job["config"] = config(folder, size, device, threads=threads, **train)
        job["folder"] = str(folder / f"{name}-{len(list(folder.iterdir()))}")
        self.processes = []
        for rank in range(ranks):
            place = {"OMP_NUM_THREADS": str(threads)}
            place |= {"RANK": str(rank), "WORLD_SIZE": str(ranks)} if ranks > 1 else {}
            self.processes.append(
                subprocess.Popen(
                    [str(python), "-c", "import train_child; train_child.serve()", json.dumps(job)],
                    cwd=HERE, env={**os.environ, **place}, stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )
            )  # fmt: skip
        try:
            self.first = self._answer()
        except BaseException:
            self.close()
            raise

    def steps(self, count: int) -> dict[str, Any]:
        """What so many more took."""
        for one in self.processes:
            os.kill(one.pid, signal.SIGCONT)
        asked = self.processes[0].stdin
        assert asked is not None
        asked.write(json.dumps({"steps": count}).encode() + b"\n")
        asked.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        out = self.processes[0].stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE)[0]:
            raise ValueError(f"no answer within {PATIENCE} s")
        line = out.readline()
        if not line:
            raise ValueError(f"its process ended with status {self.processes[0].wait()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise ValueError(found["error"])
        for one in self.processes:
            os.kill(one.pid, signal.SIGSTOP)  # no thread of it spins beside the next
        return found

    def close(self) -> None:
        for one in self.processes:
            one.kill()
            one.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def interpreter(given: str | None) -> Path | str:
    """A Python that has torch and the trainer, or why there is none."""
    python = given or sys.executable
    code = "import torch, llama_plugin_train, llama_core"
    if subprocess.run([python, "-c", code], capture_output=True).returncode == 0:
        return Path(python)
    if given:
        return f"{given} cannot import torch, llama_plugin_train and llama_core"
    ours = [part for name in ("core", "plugins/train") for part in ("-e", str(HERE.parent / name))]
    return environment("train", "torch==2.13.0", "transformers==5.23.0", "accelerate", *ours)
