"""The model as data: an immutable list of nodes over named values and named weights.

It knows names, shapes and how nodes hang together; it asks `ops` what a node means, and holds
neither numbers nor anything of backends. Every node gives one value, which has the node's name,
so a graph is in single-assignment form and a name found once means the same thing for ever.

Legend of symbolic dimensions: T rows of the step, R rows that give something.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from llama_core.errors import LlamaError, did_you_mean

if TYPE_CHECKING:
    from llama_core.model.weights import Weights

Dim = int | str
Shape = tuple[Dim, ...]
V = TypeVar("V", covariant=True)


LISTED = 20  # problems named before the rest are only counted


class GraphError(LlamaError):
    """A graph is not well formed, or the weights do not fit it. `problems` are all there are."""

    code = "graph_invalid"

    def __init__(self, subject: str, problems: Sequence[str], *, remedy: str | None = None) -> None:
        count = "" if len(problems) == 1 else f"{len(problems)} problems: "
        more = len(problems) - LISTED
        tail = f"; and {more} more" if more > 0 else ""
        super().__init__(f"{subject}: {count}{'; '.join(problems[:LISTED])}{tail}", remedy=remedy)
        self.problems = tuple(problems)


class FrozenMap(Mapping[str, V]):
    """A small mapping that cannot change, compares by content and keeps its order."""

    __slots__ = ("_items",)

    def __init__(self, items: Mapping[str, V] | Iterable[tuple[str, V]] = ()) -> None:
        self._items = dict(items)

    def __getitem__(self, key: str) -> V:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return repr(self._items)

    def also(self, **changes: Any) -> FrozenMap[Any]:
        """A copy with some entries set anew."""
        return FrozenMap({**self._items, **changes})


@dataclass(frozen=True, slots=True)
class Node:
    """One operation. `ops.node` makes one with its op's defaults filled in."""

    op: str
    name: str  # path-like and stable: "layers.3.attn.q_proj"; also the name of its value
    inputs: tuple[str, ...] = ()  # names of values
    weights: FrozenMap[str] = field(default_factory=FrozenMap)  # role: name of the weight
    attrs: FrozenMap[Any] = field(default_factory=FrozenMap)

    def with_attrs(self, **changes: Any) -> Node:
        return replace(self, attrs=self.attrs.also(**changes))

    def with_weights(self, weights: Mapping[str, str]) -> Node:
        return replace(self, weights=FrozenMap(weights))


@dataclass(frozen=True, slots=True)
class Group:
    """Nodes that a backend may run as one; each keeps its own name, weights and value."""

    kind: str  # "qkv", "gate_up", "norm_linear", "add_norm", ...
    nodes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KVHeads:
    """Layers whose attention remembers the same shape over the same window."""

    layers: tuple[int, ...]
    num_heads: int
    head_dim: int
    window: int | None  # how many tokens back they look, themselves included; None for all


INPUTS: FrozenMap[Shape] = FrozenMap(
    {
        "tokens": ("T",),
        "positions": ("T",),
        "adapters": ("T",),  # slot of each row, -1 for none
        "rows": ("R",),  # which rows give something
    }
)


@dataclass(frozen=True, slots=True)
class Graph:
    """A whole model, or one rank's part of it. `nodes` stand in an order that can be run."""

    architecture: str
    vocab_size: int
    hidden_size: int
    context_length: int
    nodes: tuple[Node, ...]
    shapes: FrozenMap[tuple[int, ...]]  # of every weight that the nodes name
    outputs: FrozenMap[str]  # "logits" and "hidden": name of the value; empty for an inner stage
    inputs: FrozenMap[Shape] = INPUTS
    groups: tuple[Group, ...] = ()
    rewrites: tuple[str, ...] = ()  # what was done to it, in order
    _checked: tuple[object, dict[str, Shape]] | None = field(
        default=None, init=False, repr=False, compare=False
    )  # the ops that its values were checked by, and the shapes that they gave

    def __getitem__(self, name: str) -> Node:
        for node in self.nodes:
            if node.name == name:
                return node
        raise GraphError(
            f"graph of {self.architecture}",
            [f"there is no node {name!r}"],
            remedy=did_you_mean(name, [n.name for n in self.nodes]) or None,
        )

    def users(self, value: str) -> tuple[Node, ...]:
        """The nodes that read a value."""
        return tuple(node for node in self.nodes if value in node.inputs)

    def of(self, op: str) -> tuple[Node, ...]:
        """The nodes of one op, in order."""
        return tuple(node for node in self.nodes if node.op == op)

    @property
    def kv_groups(self) -> tuple[KVHeads, ...]:
        """What its attention remembers, in the order in which the groups first appear."""
        found: dict[tuple[int, int, int | None], list[int]] = {}
        for node in self.of("attention"):
            a = node.attrs
            key = (a["num_kv_heads"], a["head_dim"], a["window"])
            found.setdefault(key, []).append(a["layer"])
        return tuple(KVHeads(tuple(layers), *key) for key, layers in found.items())

    def value_shapes(self) -> dict[str, Shape]:
        """The shape of every value; GraphError lists everything that does not fit."""
        from llama_core.model import ops

        rules = [ops.OPS.get(node.op) for node in self.nodes]  # a plugin's op may come, and go
        if self._checked is None or self._checked[0] != rules:
            object.__setattr__(self, "_checked", (rules, self._shapes_by_rule()))
        assert self._checked is not None
        return dict(self._checked[1])

    def _shapes_by_rule(self) -> dict[str, Shape]:
        from llama_core.model import ops

        problems: list[str] = []
        known: dict[str, Shape | None] = dict(self.inputs)
        for node in self.nodes:
            if node.name in known:
                problems.append(f"{node.name}: a value of this name is there already")
                continue
            known[node.name] = None
            found = [f"{node.name}: {why}" for why in self._faults(node, known)]
            if not found and all(known[value] is not None for value in node.inputs):
                shapes = tuple(known[value] or () for value in node.inputs)
                roles = {role: self.shapes[weight] for role, weight in node.weights.items()}
                try:
                    known[node.name] = ops.op(node.op).shape(node, shapes, roles)
                except ops.ShapeError as error:
                    given = ", ".join(
                        f"{v}{list(s)}" for v, s in zip(node.inputs, shapes, strict=True)
                    )
                    found = [f"{node.name}: {node.op} of {given or 'nothing'}: {error}"]
            problems += found
        problems += [
            f"output {name!r} names {value!r}, which no node gives"
            for name, value in self.outputs.items()
            if value not in known
        ]
        problems += [
            f"group {group.kind!r} names {name!r}, which is no node"
            for group in self.groups
            for name in group.nodes
            if name not in known or name in self.inputs
        ]
        if problems:
            raise GraphError(f"graph of {self.architecture}", problems)
        return {name: shape for name, shape in known.items() if shape is not None}

    def _faults(self, node: Node, known: Mapping[str, Shape | None]) -> list[str]:
        from llama_core.model import ops

        faults = [
            f"reads {v!r}, which nothing before it gives" for v in node.inputs if v not in known
        ]
        faults += [f"input {v!r} is its own value" for v in node.inputs if v == node.name]
        for role, weight in node.weights.items():
            if weight not in self.shapes:
                faults.append(f"its {role} {weight!r} has no shape in the graph")
        return faults + ops.faults(node)

    def validate(self) -> Graph:
        """The graph itself, or one GraphError that names node and shape of all that is wrong."""
        self.value_shapes()
        return self

    def weight_problems(self, weights: Weights) -> list[str]:
        """What keeps these weights from fitting: missing tensors and wrong shapes, all of them."""
        problems = []
        unread = [name for name in weights.names() if name not in self.shapes]
        for name, shape in self.shapes.items():
            if name not in weights:
                near = did_you_mean(name, unread)
                problems.append(f"{name} {list(shape)} is missing" + (f" ({near})" if near else ""))
            elif (found := tuple(weights.about(name)[0])) != shape:
                problems.append(f"{name} is {list(found)} and must be {list(shape)}")
        return problems

    def map(self, change: Callable[[Node], Node | Sequence[Node]], rewrite: str) -> Graph:
        """A copy with every node replaced by what `change` gives for it, recorded as `rewrite`."""
        nodes: list[Node] = []
        for node in self.nodes:
            new = change(node)
            nodes.extend((new,) if isinstance(new, Node) else new)
        return replace(self, nodes=tuple(nodes), rewrites=(*self.rewrites, rewrite))
