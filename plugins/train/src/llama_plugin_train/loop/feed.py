"""Batches on their way to the device: one thread reads ahead, so that a step never waits for rows.

A batch knows where the stream stands after it, so a checkpoint holds what was learnt, not what was
read.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llama_plugin_train.data import Rows, Stream

_AHEAD = 3  # batches; each is a few kilobytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows on the device. Where every row is of one document, nobody needs to be told which."""

    tokens_BT: Tensor
    targets_BT: Tensor
    weights_BT: Tensor
    positions_BT: Tensor | None
    segments_BT: Tensor | None
    weight: float  # the sum of the weights, known to the host
    row: int  # the stream's, after these

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
        return (
            self.tokens_BT, self.targets_BT, self.weights_BT, self.positions_BT, self.segments_BT,
        )  # fmt: skip


def on_device(rows: Rows, device: torch.device, row: int = 0) -> Batch:
    """Rows as tensors there."""
    alone = bool((rows.segments_BT == rows.segments_BT[:, :1]).all())

    def moved(array: Any) -> Tensor:
        tensor = torch.from_numpy(array).contiguous()
        if device.type == "cuda":
            return tensor.pin_memory().to(device, non_blocking=True)
        return tensor.to(device)

    return Batch(
        moved(rows.tokens_BT),
        moved(rows.targets_BT),
        moved(rows.weights_BT),
        None if alone else moved(rows.positions_BT),
        None if alone else moved(rows.segments_BT),
        float(rows.weights_BT.sum(dtype="float64")),
        row,
    )


class Feed:
    """The batches of one stream, in order, from where it stands."""

    def __init__(self, stream: Stream, device: torch.device) -> None:
        self._stream, self._device = stream, device
        self._identity: Mapping[str, Any] = stream.identity
        self.row = int(stream.position()["row"])
        self._ahead: queue.Queue[Batch | BaseException] = queue.Queue(_AHEAD)
        self._ending = False
        self._thread: threading.Thread | None = None

    def seek(self, position: Mapping[str, Any]) -> None:
        """Begin at a position; before the first batch is taken."""
        assert self._thread is None
        self._stream.seek(position)
        self.row = int(position["row"])

    def take(self, count: int) -> list[Batch]:
        """The next batches; what went wrong in reading them is raised here."""
        assert not self._ending
        if self._thread is None:
            self._thread = threading.Thread(target=self._read, name="rows", daemon=True)
            self._thread.start()
        taken = []
        for _ in range(count):
            found = self._ahead.get()
            if isinstance(found, BaseException):
                self._ending = True
                raise found
            taken.append(found)
        self.row = taken[-1].row
        return taken

    def position(self) -> dict[str, Any]:
        """After the batches that were taken."""
        return {"row": self.row, **self._identity}

    def epochs(self) -> dict[str, float]:
        """How often each source was gone through."""
        return self._stream.epochs(self.row)

    def close(self) -> None:
        """End the thread; twice is allowed."""
        self._ending = True
        while self._thread is not None and self._thread.is_alive():
            try:
                self._ahead.get(timeout=0.05)
            except queue.Empty:
                continue

    def _read(self) -> None:
        try:
            while not self._ending:
                rows = self._stream.next()
                row = int(self._stream.position()["row"])
                self._ahead.put(on_device(rows, self._device, row))
        except BaseException as error:  # noqa: BLE001  (raised where the batch is taken)
            self._ahead.put(error)
