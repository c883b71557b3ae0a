"""A run becomes the model that ships: checked before anything is written, always the same bytes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from recipe import package as packaging
from recipe.card import BEGIN, END
from recipe.package import MODEL, CannotPackage, package, summary
from recipe.record import read_metrics, thinned

SHAPE = {
    "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 4, "num_key_value_heads": 2,
    "vocab_size": 280, "max_position_embeddings": 64,
}  # fmt: skip
CONFIG = """\
start = "/srv/x/recipe/../runs/recall/model"
cache = "/srv/x/shards"
paths = ["/srv/x/corpus/chats-000.jsonl", "/srv/x/corpus/chats-001.jsonl"]
name = "chats"
"""


def step(number: int, loss: float, **more: Any) -> dict[str, Any]:
    row = {"event": "step", "step": number, "loss": loss, "rate": 0.003, "gradient_norm": 1.0}
    return {**row, "tokens": number * 4096, "tokens_per_second": 1000.0 + number, **more}


def started(number: int) -> dict[str, Any]:
    row = {"event": "started", "step": number, "run": "/srv/x/run", "steps": 40, "ranks": 1}
    size = {"parameters": 5246208, "tokens_per_step": 4096, "device": "cpu", "dtype": "float32"}
    return {**row, **size, "resumed": number > 0, "time": 1.5}


def held_out(number: int, loss: float) -> dict[str, Any]:
    row = {"event": "evaluation", "step": number, "loss": loss, "perplexity": 2.0}
    return {**row, "tokens": 100, "seconds": 1.0, "best": True}


METRICS = [
    {"event": "preparing", "step": 0, "done_bytes": 1, "total_bytes": 2},
    started(0),
    step(10, 4.123456789),
    step(20, 3.0),
    held_out(20, 3.1),
    step(30, 9.0),  # lost: the run went on from step 20
    {"resumed_at": 20},
    started(20),
    step(30, 2.0),
    step(40, 1.5),
    held_out(40, 1.6),
    {"event": "ended", "step": 40, "reason": "finished", "loss": 1.5, "model": "/srv/x/model"},
]


def asked(model: Path, skills: Path) -> dict[str, Any]:
    """What `llama eval` says, of questions that nobody asked."""
    answers = [{"right": number % 4 != 0} for number in range(64)]
    skill = {"name": "sums", "right": 48, "asked": 64, "failed": 0, "low": 0.63, "high": 0.84}
    suite = {"backend": "cpu", "skills": [{**skill, "share": 0.75}], "answers": answers}
    text = {"window": 64, "scored_tokens": 1260}
    model_says = {"perplexity": 2.5, "perplexity_error": 0.01}
    return summary(suite, {"text": text, "model": model_says})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "model").mkdir(parents=True)
    for name in packaging.NEEDED:
        (folder / "model" / name).write_text(name)
    (folder / "model" / "config.json").write_text(json.dumps(SHAPE))
    (folder / "config.toml").write_text(CONFIG)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in METRICS))
    return folder


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    folder = tmp_path / "plugin"
    (folder / "recipe").mkdir(parents=True)
    (folder / MODEL / "suites").mkdir(parents=True)
    (folder / MODEL / "suites" / "skills.jsonl").write_text("the suite")
    (folder / MODEL / "model-00001-of-00002.safetensors").write_text("of an earlier model")
    (folder / "README.md").write_text(f"# Card\n\n{BEGIN}\n\nnothing\n\n{END}\n\nThe rest.\n")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_the_model_lies_beside_the_suites(run: Path, plugin: Path) -> None:
    package(run, plugin, asked)
    there = contents(plugin / MODEL)
    assert there.pop("suites/skills.jsonl") == b"the suite"
    assert there == contents(run / "model")


def test_what_ships_may_be_another_model_than_the_runs(run: Path, plugin: Path) -> None:
    blended = run.parent / "blend"
    shutil.copytree(run / "model", blended)
    (blended / "tokenizer.json").write_text("of the blend")
    package(run, plugin, asked, blended)
    assert (plugin / MODEL / "tokenizer.json").read_text() == "of the blend"
    (blended / "tokenizer.json").unlink()
    with pytest.raises(CannotPackage, match="has no blend/tokenizer.json"):
        package(run, plugin, asked, blended)


def test_the_same_run_gives_the_same_bytes(run: Path, plugin: Path) -> None:
    package(run, plugin, asked)
    first = contents(plugin)
    package(run, plugin, asked)
    assert contents(plugin) == first


def test_the_card_says_what_was_measured(run: Path, plugin: Path) -> None:
    package(run, plugin, asked)
    card = (plugin / "README.md").read_text()
    assert "| size | 5,246,208 numbers, 0.0 MB |" in card
    assert "| run | 40 steps, 0.2 million tokens, 1,025 a second (median) on `cpu`" in card
    assert "| loss at the end | 1.500 nats a token; on what was held out 1.600 (step 40) |" in card
    assert "2.500 ± 0.010, over 1,260 tokens in windows of 64" in card
    assert "| sums | 48 of 64 | 75.0% | 63.0% to 84.0% |" in card
    assert "nothing" not in card
    assert card.startswith("# Card")
    assert card.endswith("The rest.\n")


def test_what_is_kept_of_the_run_names_no_machine(run: Path, plugin: Path) -> None:
    package(run, plugin, asked)
    kept = contents(plugin / "recipe" / "run")
    assert set(kept) == {"config.toml", "metrics.jsonl", "loss.svg", "scores.json"}
    assert not any(b"/srv" in each for each in kept.values())
    config = kept["config.toml"].decode()
    assert 'paths = ["../../corpus/chats-000.jsonl", "../../corpus/chats-001.jsonl"]' in config
    assert 'start = "../../runs/recall/model"' in config
    assert b">held out<" in kept["loss.svg"]
    # Every sixteenth answer is a multiple of four, and those are wrong.
    assert json.loads(kept["scores.json"])["sample"] == {"every": 16, "asked": 4, "right": 0}


def test_what_was_done_again_counts_once(run: Path) -> None:
    rows = read_metrics(run / "metrics.jsonl")
    steps = [(row["step"], row["loss"]) for row in rows if row["event"] == "step"]
    assert steps == [(10, 4.12346), (20, 3.0), (30, 2.0), (40, 1.5)]
    assert [row["event"] for row in rows][-1] == "ended"
    assert "preparing" not in {row["event"] for row in rows}


def test_metrics_are_thinned_until_they_are_small() -> None:
    rows = [*(step(number, 1.0) for number in range(1, 1001)), held_out(1000, 2.0)]
    text = thinned(rows, most_bytes=20_000)
    kept = [json.loads(line) for line in text.splitlines()]
    assert 10_000 < len(text) <= 20_000
    assert [row["step"] for row in kept[:2]] == [1, 9]
    assert [row["step"] for row in kept[-2:]] == [1000, 1000], "the end is not lost"


@pytest.mark.parametrize("missing", ["config.toml", "metrics.jsonl", "model/model.safetensors"])
def test_a_run_that_has_not_ended_is_refused(run: Path, plugin: Path, missing: str) -> None:
    (run / missing).unlink()
    before = contents(plugin)
    with pytest.raises(CannotPackage, match=f"has no {missing}: has `llama train` ended there"):
        package(run, plugin, asked)
    assert contents(plugin) == before


def test_a_model_that_is_too_large_is_refused(run: Path, plugin: Path) -> None:
    with (run / "model" / "model.safetensors").open("wb") as file:
        file.truncate(32_000_001)
    before = contents(plugin)
    with pytest.raises(CannotPackage, match=r"has 32\.0 MB, and the wheel carries at most 32"):
        package(run, plugin, asked)
    assert contents(plugin) == before


def test_a_card_without_its_marks_is_refused(run: Path, plugin: Path) -> None:
    (plugin / "README.md").write_text("# Card\n")
    before = contents(plugin)
    with pytest.raises(ValueError, match="the model card needs one part between"):
        package(run, plugin, asked)
    assert contents(plugin) == before


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        packaging.main([str(tmp_path / "nowhere")])
    assert "nowhere has no config.toml" in capsys.readouterr().err


def test_the_card_of_this_plugin_has_its_marks() -> None:
    card = (packaging.PLUGIN / "README.md").read_text("utf-8")
    assert card.count(BEGIN) == card.count(END) == 1
