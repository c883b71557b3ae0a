"""Attending a run: who hears of it, who may speak to it.

The loop knows none of this; it is given one callable to tell and one queue to look into.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.plugins import Plugins
from llama_plugin_train.cli.signals import stopping
from llama_plugin_train.control.hub import Hub
from llama_plugin_train.control.server import ControlServer
from llama_plugin_train.loop.commands import Commands, make
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.rank import Attended, take_part
from llama_plugin_train.metrics.readings import Readings
from llama_plugin_train.metrics.telling import Sink, Telling, to_journal, to_listeners
from llama_plugin_train.metrics.view import view
from llama_plugin_train.runs import RunDirectory

if TYPE_CHECKING:
    from llama_plugin_train.loop.trainer import Outcome

_FLUSH_SECONDS = 5.0


def train(plugins: Plugins, folder: Path, overrides: Mapping[str, Any]) -> Outcome:
    """Go on with the run in a folder until it ends, as the rank that the environment says."""

    @contextmanager
    def attend(config: TrainConfig, run: RunDirectory) -> Iterator[Attended]:
        with attended(plugins, config, run) as both:
            yield both

    outcome: Outcome = take_part(folder, overrides, attend, plugins=plugins)
    return outcome


@contextmanager
def attended(plugins: Plugins, config: TrainConfig, run: RunDirectory) -> Iterator[Attended]:
    """What a run tells goes to its file, TensorBoard, the control API, listeners and the terminal;
    what it is told comes from the control API and from signals."""
    said, commands = plugins.announcements, Commands()
    plugins.start()
    with ExitStack() as stack:
        hub = Hub(str(run.path), commands, _dials(config))
        sinks: dict[str, Sink] = {"the metrics' file": to_journal(run.metrics)}
        if config.control.tensorboard:
            from llama_plugin_train.metrics.tensorboard import TensorBoard

            sinks["TensorBoard"] = TensorBoard(run.path / "tensorboard")
        sinks["the control API"] = hub.publish
        sinks["the core's listeners"] = to_listeners(str(run.path), plugins.emit)
        sinks["the terminal"] = shown = view()
        stack.callback(shown.close)
        stack.callback(plugins.events.flush, _FLUSH_SECONDS)
        if config.control.enabled:
            stack.enter_context(ControlServer(run.path, hub, port=config.control.port))
        if "RANK" not in os.environ:  # else whoever started the ranks hears the signals
            stack.enter_context(stopping(lambda: commands.put(make("stop"))))
        yield Telling(sinks, said, Readings(said)), commands


def _dials(config: TrainConfig) -> dict[str, float]:
    from llama_plugin_train.loop.state import Dials

    return asdict(Dials.of(config))
