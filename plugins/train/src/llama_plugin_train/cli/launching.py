"""A run of several ranks: started by a launcher, while this process waits and hears Ctrl-C."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_plugin_train.cli.signals import stopping
from llama_plugin_train.control import past
from llama_plugin_train.control.client import Control
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.launching import start

PROGRAM = "llama_plugin_train.cli.rank"


def launch(
    plugins: Plugins, folder: Path, config: TrainConfig, overrides: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Run all ranks to the end; what the first of them told of it."""
    running = start(config, folder, plugins, overrides=overrides, program=PROGRAM)

    def stop() -> None:
        try:
            Control.of(folder).tell("stop")
        except LlamaError:  # it does not listen, or not yet
            running.stop(0.0)

    try:
        with stopping(stop):
            while (codes := running.wait(1.0)) is None:
                continue
    finally:
        running.stop(0.0)
    ended = past.state(folder, past.records(folder))["ended"]
    if any(codes) or ended is None:
        raise LlamaError(
            f"the run in {folder} failed: its ranks ended with {', '.join(map(str, codes))}",
            remedy=f"Go on from its last checkpoint: llama train --resume {folder}",
        )
    return dict(ended)
