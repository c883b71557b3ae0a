"""Tensor: one rank's share of every layer, split by heads, inner width and vocabulary.

The products into a block are cut by rows and the one out of it by columns, and one sum over the
ranks follows each block. What holds q, k and v or gate and up in one tensor is taken apart first.
A layer that cannot be split is an error, or stays whole on every rank where that is allowed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from llama_core.contracts.rewrite import Phase
from llama_core.errors import ConfigError
from llama_core.model import ops
from llama_core.model.graph import FrozenMap, Graph, GraphError, Node
from llama_core.model.numerics import in_blocks
from llama_core.model.origin import Origin
from llama_core.model.weights import About, OverlayWeights, Tensor, Weights

ROWS, COLUMNS = 0, 1


@dataclass(frozen=True, slots=True)
class Cut:
    """A weight that is a part of another."""

    source: str
    axis: int
    start: int
    stop: int


class CutWeights(Weights):
    """Parts of other weights, cut when they are asked for."""

    def __init__(self, base: Weights, cuts: dict[str, Cut]) -> None:
        self._base = base
        self._cuts = cuts

    def names(self) -> Iterator[str]:
        return iter(self._cuts)

    def find(self, name: str) -> Tensor | None:
        cut = self._cuts.get(name)
        return None if cut is None else self._base[cut.source].cut(cut.axis, cut.start, cut.stop)

    def __contains__(self, name: object) -> bool:
        return name in self._cuts

    def about(self, name: str) -> About:
        if name not in self._cuts:
            return super().about(name)
        cut = self._cuts[name]
        shape, encoding = self._base.about(cut.source)
        share = cut.stop - cut.start
        return About((*shape[: cut.axis], share, *shape[cut.axis + 1 :]), encoding)

    def bytes_of(self, name: str) -> int:
        if name not in self._cuts:
            return super().bytes_of(name)
        cut = self._cuts[name]
        length = self._base.about(cut.source).shape[cut.axis]
        return self._base.bytes_of(cut.source) * (cut.stop - cut.start) // max(length, 1)

    def origin(self, name: str) -> Origin | None:
        cut = self._cuts.get(name)
        found = None if cut is None else self._base.origin(cut.source)
        if cut is None or found is None:
            return None
        return found.then(f"[{cut.start}:{cut.stop}] of axis {cut.axis}")


class TensorSplit:
    """Rank `rank` of `world_size`."""

    phase: Phase = "shard"
    neutral = True

    def __init__(self, rank: int, world_size: int, leave_whole: bool = False) -> None:
        if not 0 <= rank < world_size:
            raise ConfigError(f"rank {rank} of {world_size} is not there")
        self.rank = rank
        self.world_size = world_size
        self.leave_whole = leave_whole

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        if self.world_size == 1:
            return graph, weights
        work = _Work(graph, weights, self.rank, self.world_size)
        for node in graph.nodes:
            why = None
            if node.op == "attention":
                why = work.split_attention(node)
            elif node.op in ("glu", "activation"):
                why = work.split_mlp(node)
            elif node.op == "moe":
                why = work.split_experts(node)
            elif node.name == "lm_head":
                work.split_head(node)
            if why is not None and not self.leave_whole:
                work.problems.append(f"{node.name}: {why}")
        if work.problems:
            raise GraphError(
                f"{graph.architecture} cannot be split {self.world_size} ways", work.problems
            )
        return work.result(f"tensor({self.rank} of {self.world_size})")


@dataclass
class _Work:
    """A split under way: nodes that change, nodes that follow others, weights that are cut."""

    graph: Graph
    weights: Weights
    rank: int
    world_size: int
    changed: dict[str, Node] = field(default_factory=dict)
    after: dict[str, Node] = field(default_factory=dict)  # by the node it sums or gathers
    cuts: dict[str, Cut] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nodes = {node.name: node for node in self.graph.nodes}

    def split_attention(self, node: Node) -> str | None:
        """Each rank takes some key heads and the query heads that share them."""
        heads, kv_heads = node.attrs["num_heads"], node.attrs["num_kv_heads"]
        if kv_heads % self.world_size:
            return f"{kv_heads} key heads do not divide by {self.world_size}"
        paths = [self._back(value) for value in node.inputs]
        for path in paths:
            for step in path:
                if step.op == "rms_norm" and self._width(step) != node.attrs["head_dim"]:
                    return f"{step.name} norms all heads together"
        out = self._only_user(node)
        if out is None or not all(path and self._splits(path[-1]) for path in paths):
            return "it does not stand between linears"
        for path in paths:
            self._cut_rows(path[-1])
        shares = {
            "num_heads": heads // self.world_size,
            "num_kv_heads": kv_heads // self.world_size,
        }
        self.changed[node.name] = node.with_attrs(**shares)
        self._cut_columns(out)
        return None

    def split_mlp(self, node: Node) -> str | None:
        """Each rank takes part of the inner width."""
        paths = [self._back(value) for value in node.inputs]
        out = self._only_user(node)
        if out is None or not all(path and self._splits(path[-1]) for path in paths):
            return "it does not stand between linears"
        width = self.graph.shapes[out.weights["weight"]][1]
        if width % self.world_size:
            return f"its width of {width} does not divide by {self.world_size}"
        for path in paths:
            self._cut_rows(path[-1])
        self._cut_columns(out)
        return None

    def split_experts(self, node: Node) -> str | None:
        width = self.graph.shapes[node.weights["gate.0"]][0]
        if width % self.world_size:
            return f"its width of {width} does not divide by {self.world_size}"
        for role, weight in node.weights.items():
            self._cut(weight, weight, COLUMNS if role.startswith("down") else ROWS)
        self.after[node.name] = ops.node("all_reduce", f"{node.name}.sum", (node.name,))
        return None

    def split_head(self, node: Node) -> None:
        """Part of the vocabulary, put together again; left whole where it does not divide."""
        weight = node.weights["weight"]
        if self.graph.shapes[weight][0] % self.world_size:
            return
        name = f"{node.name}.weight"
        self._cut(name, weight, ROWS)
        self.changed[node.name] = node.with_weights({**node.weights, "weight": name})
        self.after[node.name] = ops.node(
            "all_gather", f"{node.name}.all", (node.name,), world_size=self.world_size
        )

    def result(self, name: str) -> tuple[Graph, Weights]:
        follows = {before: node.name for before, node in self.after.items()}
        nodes: list[Node] = []
        for old in self.graph.nodes:
            node = self.changed.get(old.name, old)
            reads = tuple(follows.get(value, value) for value in node.inputs)
            nodes.append(replace(node, inputs=reads))
            if old.name in self.after:
                nodes.append(self.after[old.name])
        outputs = {role: follows.get(value, value) for role, value in self.graph.outputs.items()}
        read = {value for node in nodes for value in node.inputs} | set(outputs.values())
        nodes = [node for node in nodes if node.name in read]  # fused linears are not, now
        shapes = dict(self.graph.shapes)
        for weight, cut in self.cuts.items():
            shape = list(self.graph.shapes[cut.source])
            shape[cut.axis] = cut.stop - cut.start
            shapes[weight] = tuple(shape)
        used = {weight for node in nodes for weight in node.weights.values()}
        graph = replace(
            self.graph,
            nodes=tuple(nodes),
            shapes=FrozenMap({weight: shapes[weight] for weight in shapes if weight in used}),
            outputs=FrozenMap(outputs),
            groups=tuple(g for g in self.graph.groups if read.issuperset(g.nodes)),
            rewrites=(*self.graph.rewrites, name),
        )
        return graph.validate(), OverlayWeights(self.weights, CutWeights(self.weights, self.cuts))

    def _back(self, value: str) -> list[Node]:
        """From a value back to the linear it comes from, or to a slice of one; that one last."""
        path: list[Node] = []
        while (node := self.nodes.get(value)) is not None and node.op in ("rope", "rms_norm"):
            path.append(node)
            value = node.inputs[0]
        return [*path, node] if node is not None else []

    def _splits(self, node: Node) -> bool:
        """A linear, or a slice of one that holds several in one tensor."""
        if node.op == "slice":
            whole = self.nodes.get(node.inputs[0])
            return whole is not None and whole.op == "linear"
        return node.op == "linear"

    def _only_user(self, node: Node) -> Node | None:
        users = self.graph.users(node.name)
        return users[0] if len(users) == 1 and users[0].op == "linear" else None

    def _width(self, norm: Node) -> int:
        return self.graph.shapes[norm.weights["weight"]][0]

    def _cut_rows(self, node: Node) -> None:
        """This rank's outputs of a linear. A slice of a fused one becomes a linear of its own."""
        linear, low = node, 0
        high = self.graph.shapes[node.weights["weight"]][0] if node.op == "linear" else 0
        if node.op == "slice":
            linear = self.nodes[node.inputs[0]]
            low, high = node.attrs["start"], node.attrs["stop"]
        roles = {}
        for role, weight in linear.weights.items():
            roles[role] = weight
            if role != "input_scale":
                roles[role] = weight if linear is node else f"{node.name}.{role}"
                self._cut(roles[role], weight, ROWS, low, high)
        self.changed[node.name] = replace(
            linear, name=node.name, weights=FrozenMap(roles), inputs=linear.inputs
        )

    def _cut_columns(self, node: Node) -> None:
        """This rank's inputs of a linear, and the sum behind it; its bias is added once."""
        self._cut(node.weights["weight"], node.weights["weight"], COLUMNS)
        act = node.attrs["act"]
        if ":" in act:
            width = self.graph.shapes[node.weights["weight"]][1] // self.world_size
            if width % in_blocks(act)[0]:
                self.problems.append(f"{node.name}: a share of {width} cuts a block of act {act}")
        roles = {k: v for k, v in node.weights.items() if k != "bias" or self.rank == 0}
        self.changed[node.name] = node.with_weights(roles)
        self.after[node.name] = ops.node("all_reduce", f"{node.name}.sum", (node.name,))

    def _cut(self, name: str, source: str, axis: int, low: int = 0, high: int = 0) -> None:
        """This rank's share of low..high along an axis; of all of it, if nothing is said."""
        high = high or self.graph.shapes[source][axis]
        share = (high - low) // self.world_size
        start = low + share * self.rank
        self.cuts[name] = Cut(source, axis, start, start + share)
        if source in self.weights:
            shape, encoding = self.weights.about(source)
            step = encoding.granularity(shape, axis)
            if share % step or low % step:
                self.problems.append(
                    f"{source}: a share of {share} does not divide by {step}, as its encoding"
                    f" '{encoding}' needs"
                )
