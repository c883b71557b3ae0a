"""A run's folder and the configuration in it: begun once, opened again by whoever goes on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.announce import Announcements
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.preparing import digests
from llama_plugin_train.loop.writing import commented
from llama_plugin_train.runs import RunDirectory
from llama_plugin_train.runs.faults import RunError
from llama_plugin_train.sealed import read_sealed

_CHANGEABLE = (
    *("train.steps", "train.log_every", "train.threads", "control", "checkpoints"),
    *("distributed", "evaluation", "train.device", "train.rollbacks", "data.workers"),
)


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


def configured(folder: Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """The configuration that a run was begun with, but for what may change on the way."""
    path = folder / "run.json"
    if not path.is_file():
        raise RunError(f"{folder} holds no run: there is no run.json", remedy="Begin a new one.")
    given = read_sealed(path)["config"]
    for name, value in (overrides or {}).items():
        section, _, word = name.partition(".")
        if section not in _CHANGEABLE and name not in _CHANGEABLE:
            raise RunError(
                f"{name} cannot be changed in a run that has begun",
                remedy=f"What can: {', '.join(_CHANGEABLE)}. Begin a new run for the rest.",
            )
        given[section] = {**given[section], word: value}
    return TrainConfig.from_dict(given, f"the configuration of {folder}")
