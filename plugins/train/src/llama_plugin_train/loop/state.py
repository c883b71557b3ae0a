"""Everything that a run is between two steps, as arrays and facts: enough to go on to the bit.

Weights, optimizer, average, guard and random numbers are arrays; counts, dials and the place in the
data are facts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from llama_plugin_train.loop.assembly import Parts
from llama_plugin_train.loop.config import TrainConfig
from llama_plugin_train.loop.meter import Meter
from llama_plugin_train.optimizing.muon import Muon


@dataclass(slots=True)
class Dials:
    """What can be turned while the run runs; `commands.DIALS` are their bounds."""

    learning_rate: float
    accumulation: int
    clip: float
    evaluate_every: int
    save_every: int
    sample_every: int

    @classmethod
    def of(cls, config: TrainConfig) -> Dials:
        return cls(
            config.optimizer.rate,
            config.train.accumulation,
            config.train.clip,
            config.evaluation.every,
            config.checkpoints.every,
            config.evaluation.sample_every,
        )


@dataclass(slots=True)
class Watch:
    """What was noticed so far."""

    best: float | None = None  # loss of an evaluation
    worse: int = 0  # evaluations since
    usual: float | None = None  # loss of reports
    skipped: dict[str, int] = field(default_factory=dict)  # steps that were told, by why


@dataclass(slots=True)
class State:
    """A run between two steps."""

    parts: Parts
    dials: Dials
    meter: Meter
    step: int = 0
    tokens: int = 0
    watch: Watch = field(default_factory=Watch)

    def arrays(self) -> dict[str, Tensor]:
        """By `part/name`; all ranks ask together."""
        p = self.parts
        groups: dict[str, Mapping[str, Tensor]] = {
            "model": {name: one.detach() for name, one in p.model.named_parameters()},
            "optimizer": p.optimizer.state_arrays(),
            "average": p.average.state_arrays() if p.average else {},
            "guard": p.guard.state_arrays(),
            "meter": self.meter.state_arrays(),
            "random": _random(p.machine.device),
        }
        return {
            f"{group}/{name}": one for group, them in groups.items() for name, one in them.items()
        }

    def facts(self) -> dict[str, Any]:
        """What is no array."""
        return {
            "step": self.step,
            "tokens": self.tokens,
            "dials": asdict(self.dials),
            "watch": asdict(self.watch),
            "position": self.parts.feed.position(),
            "weight": self.meter.weight,
            "moved": bool(self.parts.optimizer.state_arrays()),
        }

    def like(self, facts: Mapping[str, Any]) -> dict[str, Tensor]:
        """Arrays named and shaped as those of a checkpoint with these facts."""
        p = self.parts
        found = {name: one for name, one in self.arrays().items() if not name.startswith("opt")}
        if facts["moved"]:
            for part in p.optimizer.parts:
                slots = ("momentum",) if isinstance(part, Muon) else ("exp_avg", "exp_avg_sq")
                for one in (one for group in part.param_groups for one in group["params"]):
                    name = f"optimizer/{p.optimizer.names[one]}"
                    found |= {f"{name}/{slot}": one.detach() for slot in slots}
                    if not isinstance(part, Muon):
                        found[f"{name}/step"] = torch.zeros(())
        return found

    @torch.no_grad()
    def take(self, arrays: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
        """Be what a checkpoint says. Where the data stands is for whoever made the feed."""
        groups: dict[str, dict[str, Tensor]] = {}
        for name, one in arrays.items():
            group, _, rest = name.partition("/")
            groups.setdefault(group, {})[rest] = one
        p = self.parts
        for name, parameter in p.model.named_parameters():
            parameter.copy_(groups["model"][name])
        p.optimizer.load_arrays(groups.get("optimizer", {}))
        if p.average:
            p.average.load_arrays(groups["average"])
        p.guard.load_arrays(groups["guard"])
        self.meter.load_arrays(groups["meter"], facts["weight"])
        _set_random(groups["random"], p.machine.device)
        self.step, self.tokens = facts["step"], facts["tokens"]
        self.dials, self.watch = Dials(**facts["dials"]), Watch(**facts["watch"])


def _random(device: torch.device) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def _set_random(states: Mapping[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)
