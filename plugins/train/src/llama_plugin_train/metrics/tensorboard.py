"""A run's numbers for TensorBoard, by torch's own writer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from llama_core.errors import LlamaError
from llama_plugin_train.loop.events import Ended, Evaluation, Event, Sample, Started, Step


class TensorBoard:
    """Writes below a folder; `tensorboard --logdir FOLDER` shows it."""

    def __init__(self, folder: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LlamaError(
                f"--tensorboard needs the package tensorboard, which does not load: {error}",
                remedy="pip install 'llama-plugin-train[metrics]'",
            ) from error
        self._new = SummaryWriter
        self._folder = folder
        self._writer: Any = None

    def __call__(self, event: Event, record: Mapping[str, Any]) -> None:
        if self._writer is None:
            # What was measured after the checkpoint that a run goes on from is measured again.
            later = event.step + 1 if isinstance(event, Started) and event.resumed else None
            self._writer = self._new(str(self._folder), purge_step=later)
        for tag, value in scalars(event, record):
            self._writer.add_scalar(tag, value, event.step)
        if isinstance(event, Sample):
            self._writer.add_text(f"sample/{event.prompt[:60]}", event.text, event.step)
        if isinstance(event, Evaluation | Ended):
            self._writer.flush()
        if isinstance(event, Ended):
            self._writer.close()


def scalars(event: Event, record: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """What of an event is a curve."""
    if isinstance(event, Evaluation):
        yield "loss/held_out", event.loss
    if not isinstance(event, Step):
        return
    yield "loss/train", event.loss
    yield "optimizer/rate", event.rate
    yield "optimizer/gradient_norm", event.gradient_norm
    yield "speed/tokens_per_second", event.tokens_per_second
    if event.utilization is not None:
        yield "speed/utilization", event.utilization
    for part, seconds in record["times"].items():
        yield f"seconds/{part}", seconds
    yield "machine/memory_bytes", event.memory_bytes
    for name, value in record.get("machine", {}).items():
        yield f"machine/{name}", value
