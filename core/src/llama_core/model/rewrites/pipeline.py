"""Pipeline: one stage of the model, cut between layers; what crosses a cut is sent and received.

Only the residual stream may cross. A value keeps its name on both sides: the stage that receives
it has a `recv` node of that name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

from llama_core.contracts.rewrite import Phase
from llama_core.errors import ConfigError
from llama_core.model import ops
from llama_core.model.graph import FrozenMap, Graph, GraphError
from llama_core.model.weights import Weights


class PipelineStage:
    """Stage `rank` of `world_size`; `cuts` names the first layer of each later stage."""

    phase: Phase = "shard"
    neutral = True

    def __init__(self, rank: int, world_size: int, cuts: Sequence[int] | None = None) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"pipeline stage {rank} of {world_size} is not there")
        self.rank = rank
        self.world_size = world_size
        self.cuts = None if cuts is None else tuple(cuts)

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        places = (0, *self._places(graph), len(graph.nodes))
        low, high = places[self.rank], places[self.rank + 1]
        nodes = list(graph.nodes[low:high])
        if self.rank > 0:
            value, width = _crossing(graph, low)
            nodes.insert(0, ops.node("recv", value, source=self.rank - 1, width=width))
        last = self.rank == self.world_size - 1
        if not last:
            value, _ = _crossing(graph, high)
            nodes.append(ops.node("send", f"{value}.send", (value,), to=self.rank + 1))
        used = {weight for node in nodes for weight in node.weights.values()}
        here = {node.name for node in nodes}
        stage = replace(
            graph,
            nodes=tuple(nodes),
            shapes=FrozenMap({name: s for name, s in graph.shapes.items() if name in used}),
            outputs=graph.outputs if last else FrozenMap(),
            groups=tuple(g for g in graph.groups if here.issuperset(g.nodes)),
            rewrites=(*graph.rewrites, f"pipeline({self.rank} of {self.world_size})"),
        )
        return stage.validate(), weights

    def _places(self, graph: Graph) -> list[int]:
        """The number of each later stage's first node."""
        first: dict[int, int] = {}
        for place, node in enumerate(graph.nodes):
            head, _, rest = node.name.partition(".")
            number = rest.partition(".")[0]
            if head == "layers" and number.isdecimal():
                first.setdefault(int(number), place)
        cuts = self.cuts
        if cuts is None:
            cuts = tuple(
                len(first) * stage // self.world_size for stage in range(1, self.world_size)
            )
        asked = (0, *cuts)
        rising = all(a < b for a, b in pairwise(asked))
        if len(cuts) != self.world_size - 1 or not rising or not first.keys() >= set(cuts):
            raise GraphError(
                "pipeline",
                [f"cuts before layers {list(cuts)} do not make {self.world_size} stages"],
            )
        return [first[cut] for cut in cuts]


def _crossing(graph: Graph, place: int) -> tuple[str, int]:
    """The one value that is made before a place and read after it, and its width."""
    before = {node.name for node in graph.nodes[:place]}
    after = {value for node in graph.nodes[place:] for value in node.inputs}
    crossing = sorted(before & (after | set(graph.outputs.values())))
    if len(crossing) != 1:
        raise GraphError(
            "pipeline", [f"{len(crossing)} values cross the cut: {', '.join(crossing)}"]
        )
    width = graph.value_shapes()[crossing[0]][1]
    assert isinstance(width, int), "widths are never symbolic"
    return crossing[0], width
