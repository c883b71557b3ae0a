"""A run so small that it ends before one has looked: a thousand words, a model of some thousand
numbers, steps of a few milliseconds."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.loop.beginning import begin
from llama_plugin_train.loop.commands import Commands
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.events import Event, Step
from llama_plugin_train.loop.trainer import Outcome, Trainer
from llama_plugin_train.runs import RunDirectory
from llama_plugin_train.tokens import TokenizerConfig, train_tokenizer

from llama_core.plugins import Plugins

WORDS = ["the", "fox", "saw", "a", "red", "bird", "in", "old", "trees", "and", "sang", "12", "7"]
Tiny = Callable[..., TrainConfig]


@dataclass
class Ran:
    """What a run told, and what it left."""

    folder: Path
    outcome: Outcome | None = None
    events: list[Event] = field(default_factory=list)
    trainer: Trainer | None = None

    def of(self, kind: type[Any]) -> list[Any]:
        return [one for one in self.events if isinstance(one, kind)]

    @property
    def losses(self) -> dict[int, float]:
        """By step; of a step that was done again, what came last."""
        return {one.step: one.last_loss for one in self.of(Step)}

    def weights(self) -> dict[str, Any]:
        assert self.trainer is not None
        return {
            name: one.detach().clone() for name, one in self.trainer.parts.model.named_parameters()
        }


Run = Callable[..., Ran]


@pytest.fixture(scope="session")
def words(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts, conversations, and a tokenizer trained on them."""
    folder = tmp_path_factory.mktemp("words")
    dice = random.Random(0)

    def sentences(count: int) -> list[str]:
        return [" ".join(dice.choices(WORDS, k=dice.randint(3, 30))) + "." for _ in range(count)]

    (folder / "text.txt").write_text("<end>".join(sentences(60)))
    (folder / "held.txt").write_text("<end>".join(sentences(8)))
    chats = []
    for _ in range(40):
        word = dice.choice(WORDS)
        said = [
            {"role": "user", "content": word},
            {"role": "assistant", "content": f"{word} {word}"},
        ]
        chats.append(json.dumps({"messages": said}))
    (folder / "chats.jsonl").write_text("\n".join(chats) + "\n")
    texts = sentences(100) + ["user assistant\n"] * 20
    train_tokenizer(TokenizerConfig(vocab_size=280), texts, folder / "tokenizer")
    return folder


@pytest.fixture
def tiny(words: Path) -> Tiny:
    """The configuration, changed by `section.word`."""

    def made(changes: dict[str, Any] | None = None) -> TrainConfig:
        given: dict[str, dict[str, Any]] = {
            "model": {
                "hidden_size": 16, "intermediate_size": 24, "num_layers": 2, "num_heads": 4,
                "num_kv_heads": 2, "max_positions": 64,
            },
            "tokenizer": {"path": str(words / "tokenizer")},
            "data": {
                "length": 24,
                "cache": str(words / "cache"),
                "sources": [
                    {"name": "text", "paths": [str(words / "text.txt")], "separator": "<end>"}
                ],
                "held_out": [
                    {"name": "held", "paths": [str(words / "held.txt")], "separator": "<end>"}
                ],
            },
            "optimizer": {"rate": 0.01},
            "schedule": {"warmup_steps": 2},
            "train": {"steps": 8, "batch_size": 4, "log_every": 1, "device": "cpu"},
            "checkpoints": {"every": 3, "background": False},
        }  # fmt: skip
        if "model.start" in (changes or {}):
            given["model"] = {}  # it has sizes of its own
        for name, value in (changes or {}).items():
            section, _, word = name.partition(".")
            given.setdefault(section, {})[word] = value
        return TrainConfig.from_dict(given)

    return made


@pytest.fixture(scope="session")
def plugins() -> Plugins:
    return Plugins.load()


@pytest.fixture
def run(tmp_path: Path, plugins: Plugins) -> Run:
    """Train in a folder: a new run, or the one that is there."""

    def ran(
        config: TrainConfig,
        name: str = "run",
        commands: Commands | None = None,
        on_event: Callable[[Event], None] | None = None,
        prepare: Callable[[Trainer], None] | None = None,
        fails: type[BaseException] | None = None,
    ) -> Ran:
        found = Ran(tmp_path / name)

        def hear(event: Event) -> None:
            found.events.append(event)
            if on_event is not None:
                on_event(event)

        there = (found.folder / "run.json").exists()
        directory = RunDirectory(found.folder) if there else begin(config, found.folder)
        with directory, suppress(*([fails] if fails else [])):
            trainer = Trainer(config, directory, on_event=hear, commands=commands, plugins=plugins)
            found.trainer = trainer
            if prepare is not None:
                prepare(trainer)
            found.outcome = trainer.run()
        return found

    return ran
