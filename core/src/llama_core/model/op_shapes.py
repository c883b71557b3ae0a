"""The shape rules of the vocabulary: what each op reads and what comes out, or why it does not fit.

Shapes are of rows by width; a head's numbers lie side by side in a row. No numbers here.
"""

from __future__ import annotations

from llama_core.model import rope as angles
from llama_core.model.graph import Node, Shape
from llama_core.model.op import Roles, ShapeError, Shapes


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise ShapeError(why)


def _width(shape: Shape) -> int:
    """The second dimension of a matrix of rows."""
    _need(len(shape) == 2 and isinstance(shape[1], int), f"{list(shape)} must be rows by a width")
    assert isinstance(shape[1], int)
    return shape[1]


def same(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    """All inputs alike, and so the output."""
    _need(len(set(inputs)) == 1, "the shapes must be equal")
    return inputs[0]


def norm(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    width, part = _width(inputs[0]), weights["weight"]
    whole = len(part) == 1 and part[0] > 0 and width % part[0] == 0
    if node.op == "layer_norm":
        whole = part == (width,) and weights.get("bias", part) == part
    _need(whole, f"a weight of {list(part)} does not norm rows of {width}")
    return inputs[0]


def embed(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    _need(len(inputs[0]) == 1 and len(weights["weight"]) == 2, "reads token ids and a matrix")
    return (inputs[0][0], weights["weight"][1])


def linear(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    width, weight = _width(inputs[0]), weights["weight"]
    _need(len(weight) == 2 and weight[1] == width, f"a weight of {list(weight)} reads no {width}")
    bias = weights.get("bias", weight[:1])
    _need(bias == weight[:1], f"a bias of {list(bias)} does not go with a weight of {list(weight)}")
    static = node.attrs["act"] == "static"
    _need(static == ("input_scale" in weights), "act 'static' and an input_scale go together")
    return (inputs[0][0], weight[0])


def rope(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    a = node.attrs
    _need(_width(inputs[0]) % a["head_dim"] == 0, f"{inputs[0][1]} is no whole heads")
    _need(inputs[1] == inputs[0][:1], "needs one position a row")
    turned = a["rotary_dim"]
    _need(turned <= a["head_dim"] and turned % 2 == 0, f"cannot turn {turned} of {a['head_dim']}")
    if why := angles.fault(a["scaling"], turned):
        raise ShapeError(why)
    return inputs[0]


def attention(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    a = node.attrs
    query, key = a["num_heads"] * a["head_dim"], a["num_kv_heads"] * a["head_dim"]
    _need(a["num_heads"] % a["num_kv_heads"] == 0, "query heads must share key heads evenly")
    widths = tuple(_width(shape) for shape in inputs)
    _need(widths == (query, key, key), f"its heads need widths {query}, {key}, {key}")
    return inputs[0]


def moe(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    width, experts, top = _width(inputs[0]), node.attrs["num_experts"], node.attrs["top_k"]
    _need(_width(inputs[1]) == experts, f"scores of {inputs[1][1]} for {experts} experts")
    _need(top <= experts, f"cannot choose {top} of {experts} experts")
    wanted = {f"{role}.{e}" for role in ("gate", "up", "down") for e in range(experts)}
    _need(set(weights) == wanted, f"needs gate.E, up.E and down.E for each of {experts} experts")
    inner = weights["gate.0"][:1]
    for role, shape in weights.items():
        right = (width, *inner) if role.startswith("down") else (*inner, width)
        _need(shape == right, f"{role} is {list(shape)} and must be {list(right)}")
    return inputs[0]


def columns(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    start, stop, width = node.attrs["start"], node.attrs["stop"], _width(inputs[0])
    _need(0 <= start < stop <= width, f"{start}:{stop} does not lie within {width}")
    return (inputs[0][0], stop - start)


def gather(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    _need(len(inputs[1]) == 1 and len(inputs[0]) >= 1, "reads rows and a list of row numbers")
    return (inputs[1][0], *inputs[0][1:])


def lora(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    base, x, slots = inputs
    a, b = weights["a"], weights["b"]
    _need(slots == x[:1] == base[:1], "needs one adapter slot a row")
    fits = len(a) == len(b) == 3 and (a[2], b[1]) == (_width(x), _width(base))
    _need(fits and (a[0], a[1]) == (b[0], b[2]), f"a {list(a)} and b {list(b)} do not fit")
    return base


def all_gather(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    return (inputs[0][0], _width(inputs[0]) * node.attrs["world_size"])


def recv(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    return ("T", node.attrs["width"])
