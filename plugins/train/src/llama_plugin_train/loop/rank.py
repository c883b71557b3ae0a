"""One process of a run that has several: `python -m llama_plugin_train.loop.rank FOLDER`.

A launcher starts it, once for each rank, and again after a failure; each time it goes on from the
newest checkpoint. The first rank tells what happens to whoever attends the run.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.loop.beginning import configured, remember
from llama_plugin_train.loop.commands import Commands
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.events import Event
from llama_plugin_train.loop.parent import end_with
from llama_plugin_train.runs import RunDirectory

Attended = tuple[Callable[[Event], None], Commands]
Attend = Callable[[TrainConfig, RunDirectory], AbstractContextManager[Attended]]


@contextmanager
def in_journal(config: TrainConfig, run: RunDirectory) -> Any:
    """Attend by writing every event into the run's metrics."""
    yield (lambda event: run.metrics.append(event.to_json())), Commands()


def take_part(
    folder: Path,
    overrides: Mapping[str, Any] | None = None,
    attend: Attend = in_journal,
    *,
    plugins: Plugins | None = None,
) -> Any:
    """Be the rank that the environment says, until the run ends; its outcome. There are as many as
    were started, whatever the configuration says."""
    import torch

    from llama_plugin_train.loop.agent import AGENT
    from llama_plugin_train.loop.machine import keep_freed_memory
    from llama_plugin_train.loop.ranks import Ranks
    from llama_plugin_train.loop.trainer import Trainer

    if agent := os.environ.get(AGENT):
        end_with(int(agent))
    count = int(os.environ.get("WORLD_SIZE", "1"))
    config = configured(folder, {**(overrides or {}), "distributed.ranks": count})
    wanted = config.train.device
    cuda = torch.cuda.is_available() if wanted == "auto" else wanted == "cuda"
    if not cuda:
        keep_freed_memory()
    ranks = Ranks.join("cuda" if cuda else "cpu", folder / "meeting")
    try:
        if not ranks.first:
            return Trainer(config, folder, ranks=ranks, plugins=plugins).run()
        with RunDirectory(folder) as run, attend(config, run) as (on_event, commands):
            remember(run, overrides or {})
            return Trainer(
                config, run, on_event=on_event, commands=commands, ranks=ranks, plugins=plugins
            ).run()
    finally:
        ranks.leave()


def main(arguments: Sequence[str]) -> int:
    """FOLDER, then changes as section.word=JSON."""
    try:
        changes = dict(one.split("=", 1) for one in arguments[1:])
        take_part(Path(arguments[0]), {name: json.loads(one) for name, one in changes.items()})
    except LlamaError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  (a process of its own)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
