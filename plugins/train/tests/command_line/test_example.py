"""The example that the manual begins with, as a reader runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import Llama

# Threads that wait for each other are slow where other processes want the processor too.
ALONE = {"OMP_NUM_THREADS": "1"}
EXAMPLE = Path(__file__).parents[4] / "examples" / "train_tiny"


@pytest.mark.slow
def test_it_learns_answers_and_is_read_by_transformers(
    llama: Llama, core_logits: Callable[[Path, Sequence[int]], Any]
) -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    llama.env |= ALONE
    done = llama(EXAMPLE / "config.toml", "--run", "run", "--max-steps", "200", "--json")
    assert done.code == 0, done.err
    assert (done.json["reason"], done.json["step"]) == ("finished", 200)
    records = (llama.folder / "run" / "metrics.jsonl").read_text("utf-8").splitlines()
    seen = [one for one in map(json.loads, records) if one.get("event") == "evaluation"]
    # A guess among the tokens is 6.9 nats; what it has not seen it must guess far better.
    assert seen[-1]["step"] == 200
    assert seen[-1]["loss"] < 4

    model = llama.folder / "run" / "model"
    chat = subprocess.run(
        [sys.executable, "-m", "llama_core", "chat", model, "--max-tokens", "24", "--json"],
        input="Tell me a story about a fox.", capture_output=True, text=True, env=llama.env,
        timeout=120,
    )  # fmt: skip
    assert chat.returncode == 0, chat.stderr
    assert json.loads(chat.stdout)["text"].startswith("Once upon a time")  # as all its stories do

    tokens = [5, 700, 33, 33, 901, 1, 0, 512]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(model)
    with torch.no_grad():
        wanted = theirs(torch.tensor([tokens])).logits[0].numpy()
    np.testing.assert_allclose(core_logits(model, tokens), wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_its_session_has_the_same_losses_again(llama: Llama) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLE / "session.py", llama.folder / "run"],
        capture_output=True, text=True, env=llama.env | ALONE, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("20 of 20 losses are the same\n")
