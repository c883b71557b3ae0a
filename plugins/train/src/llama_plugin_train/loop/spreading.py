"""How a model lies over the ranks: whole on each, or each weight in parts (FSDP).

The loop asks four things of it: what to call, how long the gradient is, what this rank puts into a
checkpoint, and what it takes out. Heads in parts are in `tensor_parallel`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from llama_plugin_train.loop.learner import Learner
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.optimizing.clipping import clip_gradients
from llama_plugin_train.runs import Piece, Region


class Spread(Protocol):
    """A learner made ready for its ranks."""

    called: nn.Module
    data_rank: int  # whose rows these are
    data_ranks: int  # how many read rows of their own
    all_write: bool  # whether every rank writes its part of a checkpoint

    def syncing(self, last: bool) -> Any:
        """A context for one pass; gradients are exchanged in the last of a step."""

    def norm(self) -> Tensor:
        """The length of the whole gradient, the same on every rank."""

    def saved(self, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        """What this rank gives to a checkpoint; all ranks ask together."""

    def regions(self, arrays: Mapping[str, Tensor]) -> dict[str, Region] | None:
        """What of a checkpoint this rank needs for arrays like these; None for all of it."""

    def received(
        self, like: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """What came from a checkpoint, as this rank holds it."""

    def whole(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies, put together from all ranks, in the host's memory; all ranks ask together."""


class Replicated:
    """The whole model on every rank; DDP averages gradients where there are several."""

    all_write = False

    def __init__(self, learner: Learner, ranks: Ranks) -> None:
        self.data_rank, self.data_ranks = ranks.rank, ranks.count
        self.called: nn.Module = learner
        if ranks.count > 1:
            self.called = nn.parallel.DistributedDataParallel(
                learner, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        self._parameters = list(learner.parameters())

    @contextmanager
    def syncing(self, last: bool) -> Iterator[None]:
        if last or self.data_ranks == 1:
            yield
            return
        ddp: Any = self.called
        with ddp.no_sync():
            yield

    def norm(self) -> Tensor:
        return clip_gradients(self._parameters)

    def saved(self, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        return dict(arrays)

    def regions(self, arrays: Mapping[str, Tensor]) -> dict[str, Region] | None:
        return None

    def received(
        self, like: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return dict(given)

    def whole(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: value.detach().to("cpu", copy=True) for name, value in arrays.items()}


class Sharded:
    """Rows of every weight on every rank, gathered block by block where they are needed."""

    all_write = True

    def __init__(self, learner: Learner, ranks: Ranks, device: str) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        self._ranks = ranks
        self.data_rank, self.data_ranks = ranks.rank, ranks.count
        mesh = init_device_mesh(device, (ranks.count,))
        for block in learner.model.blocks:
            fully_shard(block, mesh=mesh)
        # What stayed gathered after an evaluation would hide that the average was swapped out.
        fully_shard(learner, mesh=mesh, reshard_after_forward=True)
        self.called: Any = learner
        self._parameters = list(learner.parameters())

    @contextmanager
    def syncing(self, last: bool) -> Iterator[None]:
        self.called.set_requires_gradient_sync(last)
        yield

    def norm(self) -> Tensor:
        grads = [_local(p.grad) for p in self._parameters if p.grad is not None]
        squared = torch.stack(torch._foreach_norm(grads)).square().sum()
        return self._ranks.sum_(squared).sqrt()

    def saved(self, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        given: dict[str, Any] = {}
        for name, value in arrays.items():
            if not _spread(value):
                if self._ranks.first:
                    given[name] = value
            elif (local := _local(value)).numel():
                given[name] = Piece(local, _region(value).offset, tuple(value.shape))
        return given

    def regions(self, arrays: Mapping[str, Tensor]) -> dict[str, Region] | None:
        return {
            name: _region(value)
            for name, value in arrays.items()
            if not _spread(value) or _local(value).numel()
        }

    def received(
        self, like: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        from torch.distributed.tensor import DTensor

        found = {}
        for name, value in like.items():
            if not _spread(value):
                found[name] = given[name]
                continue
            local = given[name] if name in given else torch.empty_like(_local(value), device="cpu")
            like_this: Any = value
            found[name] = DTensor.from_local(
                local.to(_local(value).device),
                like_this.device_mesh,
                like_this.placements,
                shape=value.shape,
                stride=value.stride(),
            )
        return found

    def whole(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: _full(value).detach().to("cpu", copy=True) for name, value in arrays.items()}


def _spread(value: Tensor) -> bool:
    return hasattr(value, "to_local")


def _local(value: Any) -> Tensor:
    local: Tensor = value.to_local() if _spread(value) else value
    return local


def _full(value: Any) -> Tensor:
    full: Tensor = value.full_tensor() if _spread(value) else value
    return full


def _region(value: Any) -> Region:
    if not _spread(value):
        return Region((0,) * value.ndim, tuple(value.shape))
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    extent, offset = compute_local_shape_and_global_offset(
        value.shape, value.device_mesh, value.placements
    )
    return Region(tuple(offset), tuple(extent))
