"""The recipe of the bundled model is one that the trainer takes, and the one that was run."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.loop.config import TrainConfig

RUNS = ("first", "recall", "second", "bindings", "third", "fourth", "tiny")
TRAINED_ON = re.compile("(stories|chats|recalls|bindings|readings)-")
TINY = Path(__file__).parents[1] / "plugins" / "model-tiny"


def read(file: Path) -> TrainConfig:
    """A configuration with its files' names alone, wherever they lie."""
    config = TrainConfig.read(file)

    def bare(sources: Any) -> Any:
        return tuple(replace(one, paths=names(one.paths)) for one in sources)

    start = config.model.start and "/".join(Path(config.model.start).parts[-3:])
    return replace(
        config,
        model=replace(config.model, start=start),
        tokenizer=replace(config.tokenizer, paths=names(config.tokenizer.paths)),
        data=replace(
            config.data,
            cache=None,
            sources=bare(config.data.sources),
            held_out=bare(config.data.held_out),
        ),
    )


def names(paths: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(Path(path).name for path in paths)


def test_it_learns_from_all_that_the_corpus_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(TINY)
    from recipe.corpus import __main__ as corpus

    monkeypatch.setattr(corpus, "SHARD", 10)  # as many files as there are, of ten items each
    sizes = ["--stories", "30", "--chats", "80", "--recalls", "10"]
    sizes += ["--bindings", "10", "--readings", "10"]
    corpus.main(["--out", str(tmp_path / "corpus"), *sizes])
    written = {path.name for path in (tmp_path / "corpus").iterdir()}
    first, *rest = (read(TINY / "recipe" / f"{run}.toml") for run in RUNS)
    assert set(first.tokenizer.paths) == {"tokenizer.jsonl"} <= written
    every = (first, *rest)
    read_from = {name for run in every for one in run.data.sources for name in one.paths}
    assert read_from == {name for name in written if TRAINED_ON.match(name)}
    for config in every:
        assert {name for one in config.data.held_out for name in one.paths} <= written


def test_each_run_begins_from_the_one_before() -> None:
    starts = [read(TINY / "recipe" / f"{run}.toml").model.start for run in RUNS]
    assert starts[0] is None
    folders = [Path(start).parts[-3:] for start in starts[1:] if start]
    assert folders == [("runs", run, "model") for run in RUNS[:-1]]


def test_the_run_that_is_kept_was_told_the_same() -> None:
    """But for its end and its threads, which a run may be told anew when it goes on."""
    kept, told = read(TINY / "recipe" / "run" / "config.toml"), read(TINY / "recipe" / "tiny.toml")
    steps = [row["step"] for row in rows() if row["event"] == "step"]
    assert steps[-1] == told.train.steps
    train = replace(kept.train, steps=told.train.steps, threads=told.train.threads)
    assert replace(kept, train=train) == told


def rows() -> list[dict[str, Any]]:
    metrics = TINY / "recipe" / "run" / "metrics.jsonl"
    return [json.loads(line) for line in metrics.read_text().splitlines()]
