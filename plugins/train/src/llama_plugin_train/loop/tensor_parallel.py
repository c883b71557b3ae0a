"""A decoder whose every rank has some of the heads and some of the inner columns of each block.

Attention and MLP are each two products: the first is split by rows, so its outputs are this rank's
alone, and the second by columns, so the ranks' outputs add up to the whole. One sum forward and one
backward for each pair; embedding, norms and head are whole everywhere. Rows are the same on every
rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from llama_core.errors import ConfigError
from llama_plugin_train.loop.learner import Learner
from llama_plugin_train.loop.ranks import Ranks
from llama_plugin_train.models.config import DecoderConfig
from llama_plugin_train.models.linear import Linear
from llama_plugin_train.runs import Region

_FIRST = ("attn.qkv_proj", "mlp.gate_up_proj", "mlp.up_proj")
_SECOND = ("attn.o_proj", "mlp.down_proj")


@dataclass(frozen=True, slots=True)
class Cut:
    """Along which axis a weight is cut, and the widths on each rank of the parts fused there."""

    axis: int
    widths: tuple[int, ...]

    def mine(self, whole: Tensor, rank: int, count: int) -> Tensor:
        """This rank's part."""
        parts = whole.split([width * count for width in self.widths], self.axis)
        own = [part.chunk(count, self.axis)[rank] for part in parts]
        return torch.cat(own, self.axis).contiguous()

    def joined(self, parts: list[Tensor]) -> Tensor:
        """The whole of all ranks' parts."""
        split = [part.split(list(self.widths), self.axis) for part in parts]
        return torch.cat([one for same in zip(*split, strict=True) for one in same], self.axis)


class Split:
    """The ranks of one model; see `spreading.Spread`."""

    all_write = False
    data_rank, data_ranks = 0, 1

    def __init__(self, learner: Learner, ranks: Ranks) -> None:
        self.called: nn.Module = learner
        self._ranks = ranks
        self._cuts = cut(learner.model, ranks)
        named = learner.model.named_parameters()
        self._parameters = [(parameter, name in self._cuts) for name, parameter in named]

    def syncing(self, last: bool) -> Any:
        return nullcontext()  # gradients of what is whole are equal already

    def norm(self) -> Tensor:
        squared = [torch.zeros((), device=self._parameters[0][0].device) for _ in range(2)]
        for apart in (False, True):
            grads = [
                p.grad for p, is_cut in self._parameters if is_cut is apart and p.grad is not None
            ]
            if grads:
                squared[apart] = torch.stack(torch._foreach_norm(grads)).square().sum()
        return (squared[False] + self._ranks.sum_(squared[True])).sqrt()

    def saved(self, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
        return dict(self.whole(arrays))

    def regions(self, arrays: Mapping[str, Tensor]) -> dict[str, Region] | None:
        return None

    def received(
        self, like: Mapping[str, Tensor], given: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        rank, count = self._ranks.rank, self._ranks.count
        return {
            name: value
            if (how := self._cut_of(name, value)) is None
            else how.mine(value, rank, count)
            for name, value in given.items()
        }

    def whole(self, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
        found = {}
        for name, value in arrays.items():
            how, value = self._cut_of(name, value), value.detach()
            if how is not None:
                parts = [torch.empty_like(value) for _ in range(self._ranks.count)]
                torch.distributed.all_gather(parts, value.contiguous())
                value = how.joined(parts)
            found[name] = value.to("cpu", copy=True)
        return found

    def _cut_of(self, name: str, value: Tensor) -> Cut | None:
        """Of `model/NAME`, `average/NAME` or `optimizer/NAME/slot`; counts of steps are whole."""
        if value.ndim == 0:
            return None
        return next((self._cuts[part] for part in name.split("/") if part in self._cuts), None)


def cut(model: Any, ranks: Ranks) -> dict[str, Cut]:
    """Leave this rank's part of each block in the model; which weights were cut, and how."""
    _refuse(model.config, ranks.count)
    cuts: dict[str, Cut] = {}
    for number, block in enumerate(model.blocks):
        block.attn.heads //= ranks.count
        block.attn.kv_heads //= ranks.count
        for name, linear in _linears(block):
            first = name in _FIRST
            widths = [w // ranks.count for w in linear.widths] if first else []
            whole = f"blocks.{number}.{name}"
            rows = Cut(0, tuple(widths))
            columns = Cut(1, (linear.in_features // ranks.count,))
            cuts[f"{whole}.weight"] = rows if first else columns
            _keep(linear, "weight", cuts[f"{whole}.weight"], ranks)
            if first:
                linear.widths = tuple(widths)
            if first and linear.bias is not None:
                cuts[f"{whole}.bias"] = rows
                _keep(linear, "bias", rows, ranks)
            linear.forward = partial(_first if first else _second, linear)  # type: ignore[method-assign]
    return cuts


def _linears(block: nn.Module) -> Iterator[tuple[str, Linear]]:
    for name, module in block.named_modules():
        if name in (*_FIRST, *_SECOND):
            assert isinstance(module, Linear)
            yield name, module


def _keep(linear: Linear, name: str, how: Cut, ranks: Ranks) -> None:
    whole = getattr(linear, name).detach()
    setattr(linear, name, nn.Parameter(how.mine(whole, ranks.rank, ranks.count)))


def _first(linear: Linear, x: Tensor) -> Tensor:
    return functional.linear(_Enter.apply(x), linear.weight, linear.bias)


def _second(linear: Linear, x: Tensor) -> Tensor:
    out: Tensor = _Leave.apply(functional.linear(x, linear.weight))
    return out if linear.bias is None else out + linear.bias


class _Enter(torch.autograd.Function):
    """Every rank is given the same; what each wants changed of it is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return _sum(grads[0])


class _Leave(torch.autograd.Function):
    """What the ranks have is added up; each part is changed as the sum is to be."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return _sum(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        gradient: Tensor = grads[0]
        return gradient


def _sum(x: Tensor) -> Tensor:
    total = x.contiguous().clone()
    torch.distributed.all_reduce(total)
    return total


def _refuse(config: DecoderConfig, count: int) -> None:
    sizes: dict[str, Callable[[], int]] = {
        "num_heads": lambda: config.num_heads,
        "num_kv_heads": lambda: config.kv_heads,
        "intermediate_size": lambda: config.intermediate_size,
    }
    wrong = [f"{name} {size()}" for name, size in sizes.items() if size() % count]
    why = f"{', '.join(wrong)} does not divide into {count} ranks" if wrong else ""
    if config.num_experts:
        why = "it has experts"
    if config.positions == "alibi":
        why = "its slopes are of all heads"
    if why:
        raise ConfigError(
            f"this model cannot be trained with strategy tensor: {why}",
            remedy="Choose ddp or fsdp, or another number of ranks.",
        )
