"""The backend: what it can run, on which devices, and the program it makes of a graph.

torch is imported when one of the three calls is made, not before.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llama_core.announce import Announcements
from llama_core.contracts.backend import Devices, Support
from llama_core.contracts.step import Plan
from llama_core.model import ops
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.op_backend import COLLECTIVES
from llama_core.model.weights import Weights
from llama_plugin_torch import devices

if TYPE_CHECKING:
    from llama_plugin_torch.program import TorchProgram


class TorchBackend:
    """Every op of the vocabulary on torch; an op of a plugin's own on its NumPy reference."""

    name = "torch"

    def __init__(
        self,
        dtype: str = "auto",
        compile: bool = False,  # noqa: A002 - the option's name
        announcements: Announcements | None = None,
    ) -> None:
        self.announcements = announcements or Announcements()
        self._dtype = dtype
        self._compiled = compile

    def devices(self) -> Devices:
        return devices.found()

    def supports(self, node: Node) -> Support:
        from llama_plugin_torch.arithmetic import NATIVE
        from llama_plugin_torch.singles import SINGLES

        if node.op not in NATIVE and node.op not in SINGLES:
            return Support(f"backend 'torch' has no '{node.op}'")
        if node.op == "rope" and node.inputs[1] != "positions":
            return Support(f"it turns by {node.inputs[1]!r}, not by the step's own positions")
        return Support()

    def compile(self, graph: Graph, weights: Weights, plan: Plan) -> TorchProgram:
        graph.validate()
        problems = [*self._problems(graph, plan), *graph.weight_problems(weights)]
        if problems:
            raise GraphError(f"backend 'torch' cannot run {graph.architecture}", problems)
        device = devices.of(plan)
        foreign = [node.op for node in graph.nodes if not self.supports(node)]
        for op in dict.fromkeys(foreign):
            self.announcements.fallback(
                f"backend 'torch' runs {foreign.count(op)} '{op}' nodes on the NumPy reference"
            )
        from llama_plugin_torch.dtypes import compute_type
        from llama_plugin_torch.program import TorchProgram
        from llama_plugin_torch.weights import matrices

        return TorchProgram(
            graph,
            weights,
            plan,
            device=device,
            dtype=compute_type(self._dtype, matrices(graph, weights), device),
            compiled=self._compiled,
            announcements=self.announcements,
        )

    def _problems(self, graph: Graph, plan: Plan) -> Iterator[str]:
        for node in graph.nodes:
            why = self.supports(node).reason
            if why is not None and (node.op not in ops.OPS or node.op == "rope"):
                yield f"{node.name}: {why}"
        collective = [node.name for node in graph.nodes if node.op in COLLECTIVES]
        if collective and plan.communicator is None:
            yield f"{collective[0]} talks to other ranks, and the plan has no communicator"
