"""A run's folder and the configuration in it: begun once, opened again by whoever goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_core.durable import replace_file
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.preparing import digests
from llama_plugin_train.loop.writing import commented
from llama_plugin_train.runs import RunDirectory
from llama_plugin_train.runs.faults import RunError
from llama_plugin_train.sealed import read_sealed, seal

_TOLD = "told.json"
_CHANGEABLE = (
    *("train.steps", "train.log_every", "train.threads", "control", "checkpoints"),
    *("distributed", "evaluation", "train.device", "train.rollbacks", "data.workers"),
)
_DIALS = {
    "optimizer.rate": "learning_rate",
    "train.accumulation": "accumulation",
    "train.clip": "clip",
}


def begin(
    config: TrainConfig, folder: Path, announcements: Announcements | None = None
) -> RunDirectory:
    """A new run: its configuration and the digests of all that it will read."""
    return RunDirectory.create(
        folder,
        config=config.to_dict(),
        seeds={"train": config.train.seed},
        sources=digests(config),
        files={"config.toml": commented(config)},
        announcements=announcements,
    )


def told_before(folder: Path) -> dict[str, Any]:
    """What a run was told when it went on, by section.word; the last word counts."""
    path = folder / _TOLD
    return dict(read_sealed(path)["overrides"]) if path.is_file() else {}


def remember(run: RunDirectory, overrides: Mapping[str, Any]) -> None:
    """Whoever goes on the next time need not say it again."""
    told = {**told_before(run.path), **overrides}
    if overrides:
        replace_file(run.path / _TOLD, [seal({"overrides": told})])


def configured(folder: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration that a run was begun with, but for what may change on the way: as it was
    told whenever the run went on, and now."""
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no run: there is no run.json", remedy="Begin a new one.")
    given = read_sealed(path)["config"]
    for name, value in {**told_before(folder), **(overrides or {})}.items():
        section, _, word = name.partition(".")
        if section not in _CHANGEABLE and name not in _CHANGEABLE:
            rest = f"What can: {', '.join(_CHANGEABLE)}. Begin a new run for the rest."
            if dial := _DIALS.get(name):
                rest = f"It has a dial: go on, and llama train set {folder} {dial}={value}"
            raise RunError(f"{name} cannot be changed in a run that has begun", remedy=rest)
        given[section] = {**given[section], word: value}
    return TrainConfig.from_dict(given, f"the configuration of {folder}")
