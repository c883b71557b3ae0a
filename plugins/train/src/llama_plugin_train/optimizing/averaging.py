"""A slow average of the weights, which is often better than any of them.

The average is kept beside the model in float32. `swapped` puts it into the model for as long as it
is evaluated or saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from llama_core.errors import ConfigError, LlamaError


class Average:
    """Exponential: each update keeps `decay` of what was.

    Early on it keeps less, (1 + n) / (10 + n) after n updates, so that the random start is soon
    forgotten.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"an average keeps from 0 to below 1 of what was, not {decay}")
        self.decay, self.updates = decay, 0
        self._parameters = dict(model.named_parameters())
        self._average = {
            name: parameter.detach().float().clone() for name, parameter in self._parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """After a step of the optimizer."""
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        now = [parameter.detach().float() for parameter in self._parameters.values()]
        torch._foreach_lerp_(list(self._average.values()), now, 1 - keep)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model has the average's weights inside, and its own again afterwards."""
        own = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._put(self._average)
        try:
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])

    def state_arrays(self) -> dict[str, Tensor]:
        """The average by the parameters' names, and how often it was updated."""
        return {**self._average, "updates": torch.tensor(self.updates)}

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """As `state_arrays` gave it."""
        given = dict(arrays)
        updates = given.pop("updates", None)
        if updates is None or set(given) != set(self._average):
            strange = sorted(set(given) ^ set(self._average))
            raise LlamaError(
                f"these are not the averages of this model: {', '.join(strange[:3]) or 'no count'}"
            )
        for name, value in given.items():
            if value.shape != self._average[name].shape:
                raise LlamaError(
                    f"the average of '{name}' has shape {list(value.shape)}, "
                    f"not {list(self._average[name].shape)}"
                )
            self._average[name].copy_(value)
        self.updates = int(updates)
