"""One model over several GPUs, by a strategy that a plugin of kind `parallelism` provides.

Each GPU is a rank, and runs its part of the model in a thread of this process. Where a backend has
no GPU the ranks share its first device, and that is announced.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core.choice import choose_backend
from llama_core.contracts.backend import SPEC, Device
from llama_core.contracts.step import Plan
from llama_core.engine.ranks import Parallel
from llama_core.engine.request import Limits
from llama_core.errors import ConfigError, pip_install
from llama_core.model import ops
from llama_core.model.graph import GraphError
from llama_core.plugins import Plugins
from llama_gpu.llama import LlamaGPU
from llama_gpu.missing import require

MOST_GPUS = 64
KIND = "parallelism"


@dataclass(frozen=True, slots=True)
class GPUConfig:
    """Which GPUs, counted from 0 as the backend lists them, and how the model is spread over them.

    A strategy is a plugin's capability by name; "tensor_parallel" and "tensor" are the same.
    """

    gpu_ids: Sequence[int]
    strategy: str = "tensor_parallel"
    options: Mapping[str, Any] = field(default_factory=dict)  # of the strategy

    def __post_init__(self) -> None:
        ids = self.gpu_ids
        if isinstance(ids, str) or not isinstance(ids, Sequence):
            raise ConfigError(f"gpu_ids must be a list of whole numbers, not {ids!r}")
        for one in ids:
            if isinstance(one, bool) or not isinstance(one, int) or one < 0:
                raise ConfigError(f"gpu_ids must be whole numbers from 0, and one is {one!r}")
        if not 1 <= len(ids) <= MOST_GPUS or len(set(ids)) != len(ids):
            raise ConfigError(
                f"gpu_ids must name from 1 to {MOST_GPUS} GPUs, each once, not {list(ids)}"
            )
        if not isinstance(self.strategy, str) or not self.capability:
            raise ConfigError(
                f"strategy must be a name, not {self.strategy!r}",
                remedy='For instance "tensor_parallel".',
            )

    @property
    def capability(self) -> str:
        """The strategy as plugins name it."""
        return self.strategy.removesuffix("_parallel")


class MultiGPUManager:
    """Loads models as a `GPUConfig` says. A strategy that nobody provides is said at once."""

    def __init__(self, config: GPUConfig, *, plugins: Plugins | None = None) -> None:
        self.config = config
        self.plugins = Plugins.load() if plugins is None else plugins
        require(self.plugins, KIND, config.capability)

    def devices(self, backend: str | None = None) -> tuple[Device, ...]:
        """The device of each rank, in the order of `gpu_ids`."""
        choice = choose_backend(self.plugins, backend)
        gpus = [one for one in choice.devices if one.kind != "cpu"]
        ids = self.config.gpu_ids
        if not gpus:
            self.plugins.announcements.fallback(
                f"backend '{choice.name}' has no GPU here: the {len(ids)} ranks share "
                f"'{choice.devices[0].id}'",
                remedy="`llama doctor` says what each backend can run on.",
            )
            return (choice.devices[0],) * len(ids)
        missing = [one for one in ids if one >= len(gpus)]
        if missing:
            here = ", ".join(f"{n} ({gpu.id}, {gpu.name})" for n, gpu in enumerate(gpus))
            raise ConfigError(
                f"gpu_ids names GPU {missing[0]}, and backend '{choice.name}' has {here}",
                remedy=f"Choose from 0 to {len(gpus) - 1}.",
            )
        return tuple(gpus[one] for one in ids)

    def load(
        self,
        model: str | Path,
        *,
        backend: str | None = None,
        auto_detect_aws: bool = True,
        plan: Plan | None = None,
        limits: Limits | None = None,
    ) -> LlamaGPU:
        """The model, split over the GPUs; it answers as any `LlamaGPU` does."""
        ids = tuple(one.id for one in self.devices(backend))
        try:
            return LlamaGPU(
                model,
                auto_detect_aws=auto_detect_aws,
                backend=backend,
                parallel=Parallel(self.config.capability, ids, self.config.options),
                plan=plan,
                limits=limits,
                plugins=self.plugins,
            )
        except GraphError as error:
            self._check_line(backend, error)
            raise

    def _check_line(self, backend: str | None, error: GraphError) -> None:
        """A backend that can neither sum nor send runs no rank: another one may."""
        choice = choose_backend(self.plugins, backend)
        nodes = ops.node("all_reduce", "sum", ("x",)), ops.node("send", "sent", ("x",), to=1)
        reasons = [choice.backend.supports(node).reason for node in nodes]
        if all(reasons):
            others = [name for name in self.plugins.names(SPEC.kind) if name != choice.name]
            raise ConfigError(
                f"backend '{choice.name}' cannot run one rank of several: {reasons[0]}",
                remedy=f"Name another in load(model, backend=...); here are {', '.join(others)}."
                if others
                else f"Install one that can: {pip_install()}",
            ) from error
