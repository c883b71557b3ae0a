"""The backend: what it runs on, what it computes, and how a graph becomes a program."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

from llama_core.contracts.backend import Device, Devices, Support
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.announce import Announcements
    from llama_core.contracts.step import Plan
    from llama_core.model.graph import Graph, Node
    from llama_core.model.weights import Weights
    from llama_plugin_cpu.cache import Cache
    from llama_plugin_cpu.program import CpuProgram


class CpuBackend:
    """Native kernels on the processor's own threads."""

    name = "cpu"
    prefers_codes = True

    def __init__(
        self,
        threads: int = 0,
        tier: str = "auto",
        cache: str = "auto",
        cache_bytes: int = 0,
        announcements: Announcements | None = None,
    ) -> None:
        self.threads = threads
        self.tier = tier
        self.announcements = announcements
        self._cache = cache, cache_bytes

    def devices(self) -> Devices:
        from llama_plugin_cpu import native

        try:
            tier = native.tier() if self.tier == "auto" else self.tier
            if tier not in native.running_tiers():
                return Devices(
                    reason=f"the tier {tier} does not run here; "
                    f"these do: {', '.join(native.running_tiers())}"
                )
        except LlamaError as error:
            return Devices(reason=str(error))
        return Devices((Device("cpu", "cpu", f"{processor()} ({tier})", memory_bytes()),))

    def cache(self) -> Cache:
        """Where packed weights are kept, by options and environment."""
        from llama_core.announce import Announcements
        from llama_plugin_cpu.cache import Cache, settings

        return Cache(*settings(*self._cache), self.announcements or Announcements())

    def faults(self) -> list[str]:
        """What is wrong with the packed weights that are kept."""
        from llama_plugin_cpu.packs import damaged

        return damaged(self.cache())

    def supports(self, node: Node) -> Support:
        from llama_plugin_cpu.lower import unsupported

        return Support(unsupported(node))

    def compile(self, graph: Graph, weights: Weights, plan: Plan) -> CpuProgram:
        from llama_plugin_cpu.program import CpuProgram

        return CpuProgram(self, graph, weights, plan)


def processor() -> str:
    """The name on the processor."""
    try:
        with open("/proc/cpuinfo") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """Of the whole machine, or 0 where the system does not say."""
    names: Any = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
