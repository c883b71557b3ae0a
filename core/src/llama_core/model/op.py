"""What an operation is, and the register of all that are known.

An op says how it is written in a graph (inputs, weights by role, attributes), what shape it gives
and what it computes, the latter in NumPy on what a `Call` holds. `register_op` adds an op of a
plugin's own, which then validates, prints and runs on the reference like those of `ops`. Nothing
here knows any op in particular.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from llama_core.errors import LlamaError, did_you_mean, sentence
from llama_core.model.graph import FrozenMap, Node, Shape
from llama_core.model.numerics import Array

Shapes = tuple[Shape, ...]
Roles = Mapping[str, tuple[int, ...]]


class ShapeError(LlamaError):
    """The shapes given to an op do not fit; the graph adds which node and which shapes."""

    code = "shape_invalid"


class Memory(Protocol):
    """What an op may ask of the program that runs it."""

    def attend(self, q: Array, k: Array, v: Array, attrs: Mapping[str, Any]) -> Array:
        """Remember the rows' keys and values, and read with the queries what each row sees."""

    def embed(self, table_VD: Array, tokens_T: Array) -> Array:
        """Rows of the table, or the vectors that came in place of tokens."""

    def all_reduce(self, x: Array) -> Array: ...
    def all_gather(self, x: Array) -> Array: ...
    def send(self, x: Array, to: int) -> None: ...
    def recv(self, source: int) -> Array: ...


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """One node about to be computed."""

    node: Node
    inputs: Sequence[Any]
    weights: Mapping[str, Any]  # by role
    memory: Memory

    @property
    def attrs(self) -> Mapping[str, Any]:
        return self.node.attrs


@dataclass(frozen=True, slots=True)
class Attr:
    """An attribute: its types, its default where it has one, and what else must hold."""

    types: tuple[type, ...]
    default: Any = ...  # `...` says it must be given
    check: Callable[[Any], str | None] = lambda value: None


@dataclass(frozen=True, slots=True)
class Op:
    """One operation. A trailing `?` marks what may be absent, a trailing `.*` a numbered role."""

    name: str
    summary: str
    inputs: tuple[str, ...]
    shape: Callable[[Node, Shapes, Roles], Shape]
    reference: Callable[[Call], Array]
    weights: tuple[str, ...] = ()
    attrs: Mapping[str, Attr] = field(default_factory=dict)


OPS: dict[str, Op] = {}


def register_op(new: Op) -> Op:
    """Add an op to the vocabulary. Its name must be free."""
    if new.name in OPS:
        raise LlamaError(f"the op '{new.name}' is defined already", remedy="Choose another name.")
    OPS[new.name] = new
    return new


def op(name: str) -> Op:
    """The op of this name."""
    if name not in OPS:
        remedy = sentence(did_you_mean(name, OPS), f"known are {', '.join(sorted(OPS))}")
        raise LlamaError(f"there is no op '{name}'", remedy=remedy)
    return OPS[name]


def node(
    name_of_op: str,
    name: str,
    inputs: Sequence[str] = (),
    weights: Mapping[str, str] | None = None,
    **attrs: Any,
) -> Node:
    """A node with its op's defaults filled in."""
    defaults = {key: a.default for key, a in op(name_of_op).attrs.items() if a.default is not ...}
    return Node(
        name_of_op, name, tuple(inputs), FrozenMap(weights or {}), FrozenMap({**defaults, **attrs})
    )


def faults(node: Node) -> list[str]:
    """Everything wrong with how a node is written, shapes aside."""
    if node.op not in OPS:
        near = did_you_mean(node.op, OPS)
        return [f"there is no op {node.op!r}" + (f" ({near})" if near else "")]
    known = OPS[node.op]
    least = sum(not name.endswith("?") for name in known.inputs)
    found = []
    if not least <= len(node.inputs) <= len(known.inputs):
        found.append(f"{node.op} reads ({', '.join(known.inputs)}), not {len(node.inputs)} values")
    for role in known.weights:
        if not role.endswith(("?", ".*")) and role not in node.weights:
            found.append(f"{node.op} needs the weight {role!r}")
    roles = {role.rstrip("?") for role in known.weights}
    for role in node.weights:
        if role not in roles and f"{role.partition('.')[0]}.*" not in roles:
            found.append(f"{node.op} has no weight {role!r}")
    for key, attr in known.attrs.items():
        if key not in node.attrs:
            found.append(f"{node.op} needs the attribute {key!r}")
        elif not isinstance(node.attrs[key], attr.types):
            kinds = " or ".join(t.__name__ for t in attr.types)
            found.append(f"{key} is {node.attrs[key]!r} and must be {kinds}")
        elif why := attr.check(node.attrs[key]):
            found.append(f"{key} {why}")
    found += [f"{node.op} has no attribute {key!r}" for key in node.attrs if key not in known.attrs]
    return found
