"""Making a model compute with what will be stored of it, while it trains what it has.

The rounding's own gradient is zero almost everywhere, so it is left out: a weight is moved as if
its rounded self had been the weight (the straight-through estimator). Which weights take part are
the blocks' matrices; embedding, head and norms stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from llama_core.errors import ConfigError
from llama_core.model.encodings import Encoding, parse_encoding
from llama_plugin_train.models.linear import Linear
from llama_plugin_train.models.mixture import Experts
from llama_plugin_train.quantize.rounding import as_stored, refusal

# Bits to the encodings with one scale for so many weights that the scales cost half a bit or less.
BY_BITS: Mapping[str, str] = {
    "8": "q8:g32",
    "4": "q4:g32",
    "2": "q2:g32",
    "1.58": "ternary:g128",
    "1": "q1:g128",
}


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, encoding: Encoding) -> Tensor:
        return as_stored(weight, encoding).to(weight.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        return grads[0], None


class Rounding:
    """What `Linear.stored_as` is set to."""

    def __init__(self, encoding: Encoding) -> None:
        self.encoding = encoding

    def __call__(self, weight: Tensor) -> Tensor:
        rounded: Tensor = _StraightThrough.apply(weight, self.encoding)
        return rounded


def encoding_of(wanted: str) -> Encoding:
    """By its bits (8, 4, 2, 1.58, 1) or by its name; an error says what is wrong with it."""
    encoding = parse_encoding(BY_BITS.get(wanted, wanted))
    if why := refusal(encoding):
        raise ConfigError(
            f"weights cannot be trained for '{encoding}': {why}",
            remedy=f"Train for {', '.join(BY_BITS)} bits.",
        )
    return encoding


def quantize(model: nn.Module, wanted: str) -> None:
    """From now on the blocks' matrices compute as they will be stored."""
    rounding = Rounding(encoding_of(wanted))
    if any(isinstance(module, Experts) for module in model.modules()):
        raise ConfigError(
            "experts cannot be trained for an encoding",
            remedy="Train them as they are, and quantize the folder with `llama quantize`.",
        )
    for _, linear in _linears(model):
        linear.stored_as = rounding


def encodings(model: nn.Module) -> dict[str, str]:
    """What `save_folder` is to store each matrix as: weights' names to encodings' names."""
    return {
        f"{name}.weight": linear.stored_as.encoding.name
        for name, linear in _linears(model)
        if isinstance(linear.stored_as, Rounding)
    }


def _linears(model: nn.Module) -> Iterator[tuple[str, Linear]]:
    for name, module in model.named_modules():
        if isinstance(module, Linear):
            yield name, module
