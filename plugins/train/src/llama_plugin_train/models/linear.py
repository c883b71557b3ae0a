"""A linear that may be several in one product, and may compute with other weights than it trains.

`widths` are the rows of its parts: one product gives queries, keys and values, and files and
optimizers see the parts as the matrices they are.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn import functional


class Linear(nn.Linear):
    """`stored_as`, where set, says what the weight will be once it is stored."""

    def __init__(self, inner: int, widths: tuple[int, ...], bias: bool) -> None:
        super().__init__(inner, sum(widths), bias)
        self.widths = widths
        self.stored_as: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight if self.stored_as is None else self.stored_as(self.weight)
        return functional.linear(x, weight, self.bias)
