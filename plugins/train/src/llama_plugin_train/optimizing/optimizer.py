"""The optimizer of a model: which weights are moved how, and its state as plain named tensors.

Matrices decay and vectors do not. With Muon, the matrices inside the blocks are its, and the rest
is AdamW's: embedding, head, norms, biases, router. Rates are factors of one, which the loop sets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from llama_core.errors import ConfigError, LlamaError, did_you_mean, sentence
from llama_plugin_train.models.linear import Linear
from llama_plugin_train.models.mixture import Experts
from llama_plugin_train.optimizing.muon import Muon

Name = Literal["adamw", "muon"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Muon's matrices take `rate` too: its steps are as long as AdamW's."""

    name: Name = "adamw"
    rate: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    momentum: float = 0.95  # Muon's

    def __post_init__(self) -> None:
        if self.name not in (names := get_args(Name)):
            near = did_you_mean(self.name, names)
            remedy = sentence(near) if near else f"Known: {', '.join(names)}."
            raise ConfigError(f"there is no optimizer '{self.name}'", remedy=remedy)
        for word in ("rate", "eps"):
            if not 0 < getattr(self, word) < float("inf"):
                raise ConfigError(f"the optimizer's {word} is {getattr(self, word)}, not above 0")
        if not 0 <= self.weight_decay < float("inf"):
            raise ConfigError(f"the optimizer's weight_decay is {self.weight_decay}, not 0 or more")
        for value in (*self.betas, self.momentum):
            if not 0 <= value < 1:
                raise ConfigError(f"betas and momentum are from 0 to below 1, not {value}")


class Optimizer:
    """One or two of torch's optimizers that step together."""

    def __init__(self, model: nn.Module, config: OptimizerConfig) -> None:
        self.config = config
        self.names = {parameter: name for name, parameter in model.named_parameters()}
        inner = _matrices_inside(model) if config.name == "muon" else {}
        rest = [p for p in self.names if p not in inner]
        groups = [
            {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(
                [group for group in groups if group["params"]],
                lr=config.rate,
                betas=config.betas,
                eps=config.eps,
                fused=True,
            )
        ]
        if inner:
            muon = Muon(
                inner,
                list(inner.values()),
                lr=config.rate,
                momentum=config.momentum,
                weight_decay=config.weight_decay,
            )
            self.parts.append(muon)

    def step(self) -> None:
        """Move every weight that has a gradient."""
        for part in self.parts:
            part.step()

    def zero_grad(self) -> None:
        """Forget the gradients, and give their memory back."""
        for part in self.parts:
            part.zero_grad(set_to_none=True)

    @property
    def rate(self) -> float:
        rate: float = self.parts[0].param_groups[0]["lr"]
        return rate

    def set_rate(self, rate: float) -> None:
        """The rate of the steps from now on."""
        for group in self._groups():
            group["lr"] = rate

    def state_arrays(self) -> dict[str, Tensor]:
        """All state, `<parameter>/<slot>`; what has not moved yet has none."""
        return {
            f"{self.names[parameter]}/{slot}": value
            for part in self.parts
            for parameter, state in part.state.items()
            for slot, value in state.items()
        }

    def load_arrays(self, arrays: Mapping[str, Tensor]) -> None:
        """State as `state_arrays` gave it; another model's or optimizer's is refused by name."""
        slots: dict[str, dict[str, Tensor]] = {}
        for key, value in arrays.items():
            name, _, slot = key.rpartition("/")
            slots.setdefault(name, {})[slot] = value
        if unknown := sorted(set(slots) - set(self.names.values())):
            raise LlamaError(f"the optimizer's state has '{unknown[0]}', which the model has not")
        for part in self.parts:
            wanted = _SLOTS[type(part)]
            for parameter in (p for group in part.param_groups for p in group["params"]):
                given = slots.get(self.names[parameter])
                if given is None:
                    part.state.pop(parameter, None)
                    continue
                if set(given) != wanted:
                    raise LlamaError(
                        f"the optimizer's state of '{self.names[parameter]}' is "
                        f"{', '.join(sorted(given))}, not {', '.join(sorted(wanted))}",
                        remedy="Go on with the optimizer that the state is of.",
                    )
                part.state[parameter] = {
                    slot: _like(value, parameter, slot, self.names[parameter])
                    for slot, value in given.items()
                }

    def _groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]


_SLOTS: Mapping[type, set[str]] = {
    torch.optim.AdamW: {"step", "exp_avg", "exp_avg_sq"},
    Muon: {"momentum"},
}


def _like(value: Tensor, parameter: Tensor, slot: str, name: str) -> Tensor:
    if slot != "step" and value.shape != parameter.shape:
        raise LlamaError(
            f"the optimizer's {slot} of '{name}' has shape {list(value.shape)}, "
            f"not {list(parameter.shape)}"
        )
    return value.to(parameter.device, value.dtype, copy=True)


def _matrices_inside(model: nn.Module) -> dict[nn.Parameter, tuple[int, ...]]:
    """The blocks' matrices, with the rows of what is fused in each."""
    inner: dict[nn.Parameter, tuple[int, ...]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Linear) and not name.endswith("router"):
            inner[module.weight] = module.widths
        elif isinstance(module, Experts):
            inner[module.gate_up_EIM] = module.widths
            inner[module.down_EMI] = (module.down_EMI.shape[1],)
    return inner
