"""The processes that train one model together, and the few words they exchange besides tensors.

A run by itself is a group of one, and nothing is sent. What is told is JSON in a tensor of bytes:
torch's own exchange of objects is pickle, which nothing here opens.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from llama_core.errors import LlamaError

_PATIENCE = timedelta(minutes=10)


def _store(meeting: Path | None, rank: int, count: int) -> Any:
    """Where ranks find each other. An attempt after a failure must not find those of the last."""
    environment = os.environ
    if meeting is not None and "MASTER_ADDR" not in environment:
        return torch.distributed.FileStore(str(meeting), count)
    agents = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    host, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
    store = torch.distributed.TCPStore(
        host, port, is_master=rank == 0 and not agents, timeout=_PATIENCE
    )
    attempt = environment.get("TORCHELASTIC_RESTART_COUNT", "0")
    return torch.distributed.PrefixStore(f"attempt-{attempt}", store)


class Ranks:
    """This process's place in the group."""

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @classmethod
    def join(cls, device: str, meeting: Path | None = None) -> Ranks:
        """Take the place that the environment tells; a launcher has set RANK and WORLD_SIZE.

        `meeting` is a file on a disk that all share, for launchers that name no master.
        """
        rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not torch.distributed.is_available():
            raise LlamaError(
                "this build of torch trains with one process only",
                remedy="Set distributed.ranks to 1, or install another build.",
            )
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        torch.distributed.init_process_group(
            backend, store=_store(meeting, rank, count), rank=rank, world_size=count,
            timeout=_PATIENCE,
        )  # fmt: skip
        return cls(rank, count)

    @property
    def first(self) -> bool:
        """Whether this process speaks for all."""
        return self.rank == 0

    def leave(self) -> None:
        if self.count > 1 and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()

    def sum(self, number: float) -> float:
        """Of what all ranks give."""
        if self.count == 1:
            return number
        total = torch.tensor(number, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return total.item()

    def most(self, number: int) -> int:
        if self.count == 1:
            return number
        found = torch.tensor(number)
        torch.distributed.all_reduce(found, torch.distributed.ReduceOp.MAX)
        return int(found)

    def sum_(self, tensor: Tensor) -> Tensor:
        """The tensors of all ranks added up, in place."""
        if self.count > 1:
            torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, told: Any) -> Any:
        """What the first rank tells, on all."""
        if self.count == 1:
            return told
        data = json.dumps(told).encode() if self.first and told is not None else b""
        size = torch.tensor(len(data))
        torch.distributed.broadcast(size, 0)
        if not int(size):
            return None
        held = torch.zeros(int(size), dtype=torch.uint8)
        if self.first:
            held.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        torch.distributed.broadcast(held, 0)
        return json.loads(held.numpy().tobytes())

    def wait(self) -> None:
        """Until all ranks are here."""
        if self.count > 1:
            torch.distributed.barrier()
