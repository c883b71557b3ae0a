"""Puts a run's model into the plugin: `python -m recipe.package RUN [--model FOLDER]`.

The exported folder goes beside the suites into what the wheel carries, what is kept of the run into
`recipe/run`, and what was measured into the model card. The same run gives the same bytes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from recipe.card import measured, with_measured
from recipe.corpus.__main__ import HELD
from recipe.corpus.chats import plain
from recipe.record import drawn, read_metrics, thinned, without_folders

PLUGIN = Path(__file__).parents[1]
MODEL = Path("src", "llama_plugin_model_tiny", "model")
SUITES = "suites"
NEEDED = ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja")
MOST_BYTES = 32_000_000
SEED = 1  # of the corpus that the model is trained on
EVERY = 16  # of the suite's questions, one in so many is asked again by the tests

Measure = Callable[[Path, Path], dict[str, Any]]


class CannotPackage(ValueError):
    """The run is not one that can be shipped."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m recipe.package",
        description="Put a run's model, its record and its scores into this plugin.",
        epilog="Example: python -m recipe.package runs/tiny",
    )
    parser.add_argument("run", type=Path, help="the folder of a run of `llama train`")
    parser.add_argument(
        "--model", type=Path, help="what ships, where it is not the run's own model"
    )
    given = parser.parse_args(arguments)
    try:
        package(given.run, model=given.model)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(f"packaged {given.run}: see {PLUGIN / 'README.md'}\n")
    return 0


def package(
    run: Path,
    plugin: Path = PLUGIN,
    measure: Measure | None = None,
    model: Path | None = None,
) -> None:
    """Everything that can be wrong is found before anything is written."""
    model = model or run / "model"
    weights_bytes = _check(run, model)
    rows = read_metrics(run / "metrics.jsonl")
    config = json.loads((model / "config.json").read_text("utf-8"))
    target, record, card = plugin / MODEL, plugin / "recipe" / "run", plugin / "README.md"
    scores = (measure or ask)(model, target / SUITES / "skills.jsonl")
    page = with_measured(card.read_text("utf-8"), measured(config, weights_bytes, rows, scores))
    kept = {
        card: page,
        record / "config.toml": without_folders((run / "config.toml").read_text("utf-8")),
        record / "metrics.jsonl": thinned(rows),
        record / "loss.svg": drawn(rows),
        record / "scores.json": json.dumps(scores, indent=1) + "\n",
    }
    _replace(model, target)
    record.mkdir(exist_ok=True)
    for file, text in kept.items():
        _write(file, text)


def ask(model: Path, skills: Path) -> dict[str, Any]:
    """The scores of a folder: the suite, a fixed part of it, and stories that were held out."""
    suite = _llama("eval", model, "--suite", skills, "--json")
    with tempfile.TemporaryDirectory() as folder:
        stories = Path(folder) / "held-out.txt"
        _write(stories, "\n\n".join(plain(SEED, n, held=True)["text"] for n in range(HELD)) + "\n")
        text = _llama("eval", model, "--text", stories, "--json")
    return summary(suite, text)


def summary(suite: dict[str, Any], text: dict[str, Any]) -> dict[str, Any]:
    """Of what `llama eval` says, what is kept."""
    sample = suite["answers"][::EVERY]
    return {
        "backend": suite["backend"],
        "skills": suite["skills"],
        "sample": {
            "every": EVERY,
            "asked": len(sample),
            "right": sum(one["right"] for one in sample),
        },
        "held_out": {
            "window": text["text"]["window"],
            "scored_tokens": text["text"]["scored_tokens"],
            "perplexity": text["model"]["perplexity"],
            "perplexity_error": text["model"]["perplexity_error"],
        },
    }


def _check(run: Path, model: Path) -> int:
    """The size of the weights of a model that may be shipped, and of which a record is kept."""
    needed = [(run, "config.toml"), (run, "metrics.jsonl")]
    needed += [(model.parent, f"{model.name}/{name}") for name in NEEDED]
    for folder, name in needed:
        if not (folder / name).is_file():
            raise CannotPackage(f"{folder} has no {name}: has `llama train` ended there?")
    size = sum(file.stat().st_size for file in model.rglob("*") if file.is_file())
    if size > MOST_BYTES:
        raise CannotPackage(
            f"{model} has {size / 1e6:.1f} MB, and the wheel carries at most "
            f"{MOST_BYTES / 1e6:.0f}: train a smaller model"
        )
    return (model / "model.safetensors").stat().st_size


def _replace(source: Path, target: Path) -> None:
    """The target's files by the source's; the suites, in a folder of their own, stay."""
    for old in target.iterdir():
        if old.is_file():
            old.unlink()
    for new in sorted(source.iterdir()):
        shutil.copyfile(new, target / new.name)


def _llama(*command: str | Path) -> Any:
    words = [sys.executable, "-m", "llama_core", *map(str, command)]
    done = subprocess.run(words, stdout=subprocess.PIPE, encoding="utf-8", check=False)  # noqa: S603
    if done.returncode:
        raise CannotPackage(f"`llama {' '.join(map(str, command))}` ended with {done.returncode}")
    return json.loads(done.stdout)


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    sys.exit(main())
