"""A graph for people: as text, a line a node, and as a picture in SVG.

Layers that are built alike are shown once, with how many there are. It reads graphs and nothing
else, and writes strings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from llama_core.model import ops
from llama_core.model.graph import Graph, Node, Shape


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive nodes: one layer that stands for `count` alike, or what is outside layers."""

    title: str
    nodes: tuple[Node, ...]
    count: int = 1


def stretches(graph: Graph) -> list[Stretch]:
    """The graph's nodes in order, with each run of like layers folded into its first."""
    parts: list[tuple[str, list[Node]]] = []
    for node in graph.nodes:
        title = _layer(node.name)
        if not parts or parts[-1][0] != title:
            parts.append((title, []))
        parts[-1][1].append(node)
    found: list[Stretch] = []
    before: object = None
    for title, nodes in parts:
        looks = [_look(graph, node, title) for node in nodes] if title else None
        if looks is not None and looks == before:
            last = found[-1]
            found[-1] = Stretch(last.title, last.nodes, last.count + 1)
        else:
            found.append(Stretch(title, tuple(nodes)))
        before = looks
    return found


def text(graph: Graph, *, folded: bool = True) -> str:
    """One line a node: name, op, what it reads, shape, what is not as usual, weights."""
    shapes = graph.value_shapes()
    numbers = sum(_size(shape) for shape in graph.shapes.values())
    lines = [
        f"{graph.architecture}: {len(graph.nodes)} nodes, {numbers:,} parameters, "
        f"vocabulary {graph.vocab_size}, hidden size {graph.hidden_size}, "
        f"context {graph.context_length}"
    ]
    for heads in graph.kv_groups:
        seen = "all tokens" if heads.window is None else f"{heads.window} tokens"
        of = f"{len(heads.layers)} layers of {heads.num_heads} heads of {heads.head_dim}"
        lines.append(f"remembers {seen}: {of}")
    if graph.rewrites:
        lines.append(f"rewritten by {', '.join(graph.rewrites)}")
    whole = [Stretch("", graph.nodes)]
    for part in stretches(graph) if folded else whole:
        lines.append("")
        if part.title:
            lines.append(_heading(part))
        lines += [_line(graph, node, shapes[node.name]) for node in part.nodes]
    lines.append("")
    lines += [f"{role} = {value}" for role, value in graph.outputs.items()]
    lines += [f"{group.kind}: {' '.join(group.nodes)}" for group in graph.groups]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _layer(name: str) -> str:
    first, _, rest = name.partition(".")
    number = rest.partition(".")[0]
    return f"{first}.{number}" if number.isdecimal() else ""


def _look(graph: Graph, node: Node, title: str) -> object:
    """What two layers share to be shown as one; what comes from before them may differ."""
    attrs = {key: value for key, value in node.attrs.items() if key != "layer"}
    inside = tuple(value.removeprefix(title) for value in node.inputs if value.startswith(title))
    shapes = tuple((role, graph.shapes[weight]) for role, weight in node.weights.items())
    return (node.op, node.name.removeprefix(title), inside, attrs, shapes)


def _heading(part: Stretch) -> str:
    if part.count == 1:
        return f"{part.title}:"
    first = int(part.title.rpartition(".")[2])
    return f"{part.title} to {first + part.count - 1}, {part.count} alike:"


def _line(graph: Graph, node: Node, shape: Shape) -> str:
    inputs = ", ".join(node.inputs)
    said = _said(node)
    weights = _weights(graph, node)
    return f"  {node.name:32} {node.op:11} {_dims(shape):12} ({inputs}) {said} {weights}"


def _said(node: Node) -> str:
    """The attributes that are not as usual."""
    usual = ops.op(node.op).attrs
    return " ".join(
        f"{key}={_short(value)}"
        for key, value in node.attrs.items()
        if key not in usual or usual[key].default != value
    )


def _short(value: Any) -> str:
    if isinstance(value, Mapping):
        inner = " ".join(f"{k}={_short(v)}" for k, v in value.items() if k != "kind")
        return f"{value.get('kind', '')}({inner})"
    if isinstance(value, tuple) and len(value) > 4:
        return f"[{len(value)} numbers]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _weights(graph: Graph, node: Node) -> str:
    if node.op == "moe":
        inner, outer = graph.shapes[node.weights["gate.0"]]
        return f"experts {inner}x{outer}"
    return " ".join(f"{role}{list(graph.shapes[name])}" for role, name in node.weights.items())


def _dims(shape: Shape) -> str:
    return "x".join(str(dim) for dim in shape)


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for dim in shape:
        size *= dim
    return size


# ---------------------------------------------------------------- the picture

WIDTH, HEIGHT, GAP_X, GAP_Y, EDGE = 190, 38, 20, 26, 24
COLOURS = {
    "linear": "#dbeafe",
    "moe": "#dbeafe",
    "attention": "#fde68a",
    "rope": "#fef3c7",
    "rms_norm": "#dcfce7",
    "layer_norm": "#dcfce7",
    "lora": "#fbcfe8",
    "all_reduce": "#e9d5ff",
    "all_gather": "#e9d5ff",
    "send": "#e9d5ff",
    "recv": "#e9d5ff",
}


def svg(graph: Graph) -> str:
    """Boxes from top to bottom in the order they can be run, an arrow for each value read."""
    shapes = graph.value_shapes()
    places: dict[str, tuple[int, int]] = {}  # by name: left and top of its box
    boxes: list[str] = []
    top, right = EDGE, 0
    for part in stretches(graph):
        if part.title:
            boxes.append(_label(EDGE, top + 12, _heading(part)))
            top += GAP_Y
        for row in _rows(part.nodes):
            for column, node in enumerate(row):
                left = EDGE + column * (WIDTH + GAP_X)
                places[node.name] = (left, top)
                right = max(right, left + WIDTH)
                said = f"{node.op} {_dims(shapes[node.name])}"
                about = " ".join((said, _said(node), _weights(graph, node)))
                boxes.append(_box(left, top, node, said, about))
            top += HEIGHT + GAP_Y
        for number in range(1, part.count):  # the last of a fold is where its first is shown
            stem, _, first = part.title.rpartition(".")
            for node in part.nodes:
                inner = node.name.removeprefix(part.title)
                places[f"{stem}.{int(first) + number}{inner}"] = places[node.name]
    arrows = [
        _arrow(places[value], places[node.name])
        for part in stretches(graph)
        for node in part.nodes
        for value in node.inputs
        if value in places
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {right + EDGE} {top}" '
        f'width="{right + EDGE}" height="{top}" font-family="sans-serif" font-size="11">\n'
        f"<title>{escape(graph.architecture)}</title>\n"
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" '
        'markerHeight="6" orient="auto"><path d="M0 0L6 3L0 6z" fill="#64748b"/></marker></defs>\n'
        + "\n".join(arrows + boxes)
        + "\n</svg>\n"
    )


def _rows(nodes: tuple[Node, ...]) -> list[list[Node]]:
    """Nodes in the same row do not wait for each other."""
    depth: dict[str, int] = {}
    rows: list[list[Node]] = []
    for node in nodes:
        row = max((depth[value] + 1 for value in node.inputs if value in depth), default=0)
        depth[node.name] = row
        rows += [[] for _ in range(row + 1 - len(rows))]
        rows[row].append(node)
    return rows


def _box(left: int, top: int, node: Node, said: str, about: str) -> str:
    name = node.name.partition(".")[2].partition(".")[2] if _layer(node.name) else node.name
    colour = COLOURS.get(node.op, "#f1f5f9")
    return (
        f"<g><title>{escape(node.name)}: {escape(about)}</title>"
        f'<rect x="{left}" y="{top}" width="{WIDTH}" height="{HEIGHT}" rx="5" fill="{colour}" '
        f'stroke="#64748b"/>{_label(left + 8, top + 15, name)}'
        f"{_label(left + 8, top + 30, said, '#475569')}</g>"
    )


def _label(left: int, top: int, words: str, colour: str = "#0f172a") -> str:
    return f'<text x="{left}" y="{top}" fill="{colour}">{escape(words)}</text>'


def _arrow(source: tuple[int, int], target: tuple[int, int]) -> str:
    x1, y1 = source[0] + WIDTH // 2, source[1] + HEIGHT
    x2, y2 = target[0] + WIDTH // 2, target[1]
    if y2 - y1 > GAP_Y:  # it passes other boxes: along their left edge
        side = min(source[0], target[0]) - 10
        out = f"C{x1} {y1 + 14} {side} {y1} {side} {y1 + 20}"
        back = f"C{side} {y2} {x2} {y2 - 14} {x2} {y2}"
        path = f"M{x1} {y1}{out}V{y2 - 20}{back}"
    else:
        path = f"M{x1} {y1}L{x2} {y2}"
    return f'<path d="{path}" fill="none" stroke="#94a3b8" marker-end="url(#tip)"/>'
