"""The vocabulary: every operation once, with inputs, attributes, shape rule and NumPy reference.

The arithmetic is in `numerics` and `rope`, what an op is in `op`; here the two meet, and no
backend is known. Shapes are of rows by width; a head's numbers lie side by side in a row.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llama_core.model import numerics, rope
from llama_core.model.graph import FrozenMap, Node, Shape
from llama_core.model.numerics import Array
from llama_core.model.op import (
    OPS,
    Attr,
    Call,
    Memory,
    Op,
    Roles,
    ShapeError,
    Shapes,
    faults,
    node,
    op,
    register_op,
)

__all__ = [
    "OPS",
    "Attr",
    "Call",
    "Memory",
    "Op",
    "ShapeError",
    "faults",
    "node",
    "op",
    "register_op",
]

# ---------------------------------------------------------------- what attributes may be


def _positive(value: Any) -> str | None:
    return None if value is None or value > 0 else f"is {value} and must be above 0"


def _one_of(*names: str) -> Callable[[Any], str | None]:
    return lambda value: (
        None if value in names else f"is {value!r} and must be one of {', '.join(names)}"
    )


def _act(value: str) -> str | None:
    if numerics.ACT.fullmatch(value):
        return None
    return f"is {value!r} and must be none, static or q8:<block>"


NONE = type(None)
COUNT = Attr((int,), check=_positive)
NUMBER = (float, int)
EPS = Attr(NUMBER, 1e-6, _positive)
ACT = Attr((str,), "none", _act)
FN = Attr((str,), check=_one_of(*numerics.ACTIVATIONS))


# ---------------------------------------------------------------- shape rules


def _need(holds: bool, why: str) -> None:
    if not holds:
        raise ShapeError(why)


def _width(shape: Shape) -> int:
    """The second dimension of a matrix of rows."""
    _need(len(shape) == 2 and isinstance(shape[1], int), f"{list(shape)} must be rows by a width")
    assert isinstance(shape[1], int)
    return shape[1]


def _same(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    """All inputs alike, and so the output."""
    _need(len(set(inputs)) == 1, "the shapes must be equal")
    return inputs[0]


def _norm_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    width, part = _width(inputs[0]), weights["weight"]
    whole = len(part) == 1 and part[0] > 0 and width % part[0] == 0
    if node.op == "layer_norm":
        whole = part == (width,) and weights.get("bias", part) == part
    _need(whole, f"a weight of {list(part)} does not norm rows of {width}")
    return inputs[0]


def _embed_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    _need(len(inputs[0]) == 1 and len(weights["weight"]) == 2, "reads token ids and a matrix")
    return (inputs[0][0], weights["weight"][1])


def _linear_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    width, weight = _width(inputs[0]), weights["weight"]
    _need(len(weight) == 2 and weight[1] == width, f"a weight of {list(weight)} reads no {width}")
    bias = weights.get("bias", weight[:1])
    _need(bias == weight[:1], f"a bias of {list(bias)} does not go with a weight of {list(weight)}")
    static = node.attrs["act"] == "static"
    _need(static == ("input_scale" in weights), "act 'static' and an input_scale go together")
    return (inputs[0][0], weight[0])


def _rope_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    a = node.attrs
    _need(_width(inputs[0]) % a["head_dim"] == 0, f"{inputs[0][1]} is no whole heads")
    _need(inputs[1] == inputs[0][:1], "needs one position a row")
    turned = a["rotary_dim"]
    _need(turned <= a["head_dim"] and turned % 2 == 0, f"cannot turn {turned} of {a['head_dim']}")
    if why := rope.fault(a["scaling"], turned):
        raise ShapeError(why)
    return inputs[0]


def _attention_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    a = node.attrs
    query, key = a["num_heads"] * a["head_dim"], a["num_kv_heads"] * a["head_dim"]
    _need(a["num_heads"] % a["num_kv_heads"] == 0, "query heads must share key heads evenly")
    widths = tuple(_width(shape) for shape in inputs)
    _need(widths == (query, key, key), f"its heads need widths {query}, {key}, {key}")
    return inputs[0]


def _moe_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
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


def _slice_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    start, stop, width = node.attrs["start"], node.attrs["stop"], _width(inputs[0])
    _need(0 <= start < stop <= width, f"{start}:{stop} does not lie within {width}")
    return (inputs[0][0], stop - start)


def _gather_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    _need(len(inputs[1]) == 1 and len(inputs[0]) >= 1, "reads rows and a list of row numbers")
    return (inputs[1][0], *inputs[0][1:])


def _lora_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    base, x, slots = inputs
    a, b = weights["a"], weights["b"]
    _need(slots == x[:1] == base[:1], "needs one adapter slot a row")
    fits = len(a) == len(b) == 3 and (a[2], b[1]) == (_width(x), _width(base))
    _need(fits and (a[0], a[1]) == (b[0], b[2]), f"a {list(a)} and b {list(b)} do not fit")
    return base


def _all_gather_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    return (inputs[0][0], _width(inputs[0]) * node.attrs["world_size"])


def _recv_shape(node: Node, inputs: Shapes, weights: Roles) -> Shape:
    return ("T", node.attrs["width"])


# ---------------------------------------------------------------- references


def _linear(call: Call) -> Array:
    w = call.weights
    return numerics.linear(
        call.inputs[0], w["weight"], w.get("bias"), call.attrs["act"], w.get("input_scale")
    )


def _rope(call: Call) -> Array:
    a = call.attrs
    cos, sin = rope.table(a["theta"], a["rotary_dim"], a["scaling"], call.inputs[1])
    return numerics.rope(call.inputs[0], cos, sin, a["head_dim"])


def _mul(call: Call) -> Array:
    x = call.inputs[0] * call.inputs[0].dtype.type(call.attrs["by"])
    return x if len(call.inputs) == 1 else x * call.inputs[1]


def _glu(call: Call) -> Array:
    return numerics.ACTIVATIONS[call.attrs["fn"]](call.inputs[0]) * call.inputs[1]


def _moe(call: Call) -> Array:
    """Each row through its own experts, one after another in the order of their shares."""
    x_TD, scores_TE = call.inputs
    a, w = call.attrs, call.weights
    activate = numerics.ACTIVATIONS[a["fn"]]
    out_TD = np.zeros_like(x_TD)
    for row, x_D in enumerate(x_TD):
        for expert, share in zip(
            *numerics.route(scores_TE[row], a["top_k"], a["normalize"]), strict=True
        ):
            x_1D = numerics.in_precision(x_D[None], a["act"])
            gate = activate(numerics.matvec(x_1D, w[f"gate.{expert}"]))
            inner = gate * numerics.matvec(x_1D, w[f"up.{expert}"])
            inner = numerics.in_precision(inner, a["act"])
            out_TD[row] += share * numerics.matvec(inner, w[f"down.{expert}"])[0]
    return out_TD


def _attention(call: Call) -> Array:
    q, k, v = call.inputs
    return call.memory.attend(q, k, v, call.attrs)


def _lora(call: Call) -> Array:
    base_TN, x_TK, slots_T = call.inputs
    out_TN = base_TN.copy()
    for row, slot in enumerate(slots_T.tolist()):
        if slot >= 0:
            a_RK, b_NR = call.weights["a"][slot], call.weights["b"][slot]
            out_TN[row] += numerics.lora(x_TK[row], a_RK, b_NR)
    return out_TN


def _send(call: Call) -> Array:
    call.memory.send(call.inputs[0], call.attrs["to"])
    x: Array = call.inputs[0]
    return x


def _rms_norm(call: Call) -> Array:
    a = call.attrs
    return numerics.rms_norm(call.inputs[0], call.weights["weight"], a["eps"], a["offset"])


def _layer_norm(call: Call) -> Array:
    w = call.weights
    return numerics.layer_norm(call.inputs[0], w["weight"], w.get("bias"), call.attrs["eps"])


# ---------------------------------------------------------------- the vocabulary

for _op in (
    Op(
        "embed",
        "the table's row for each token",
        ("tokens",),
        _embed_shape,
        lambda call: call.memory.embed(call.weights["weight"], call.inputs[0]),
        weights=("weight",),
    ),
    Op(
        "rms_norm",
        "x / sqrt(mean(x²) + eps) · (weight + offset), over rows or heads as wide as the weight",
        ("x",),
        _norm_shape,
        _rms_norm,
        weights=("weight",),
        attrs={"eps": EPS, "offset": Attr(NUMBER, 0.0)},
    ),
    Op(
        "layer_norm",
        "(x - mean) / sqrt(variance + eps) · weight + bias",
        ("x",),
        _norm_shape,
        _layer_norm,
        weights=("weight", "bias?"),
        attrs={"eps": EPS},
    ),
    Op(
        "linear",
        "x · weightᵀ + bias, x in the precision of `act`",
        ("x",),
        _linear_shape,
        _linear,
        weights=("weight", "bias?", "input_scale?"),
        attrs={"act": ACT},
    ),
    Op(
        "rope",
        "turn the first rotary_dim numbers of each head by the row's position",
        ("x", "positions"),
        _rope_shape,
        _rope,
        attrs={
            "head_dim": COUNT,
            "rotary_dim": COUNT,
            "theta": Attr(NUMBER, 10000.0, _positive),
            "scaling": Attr((Mapping,), FrozenMap({"kind": "none"})),
        },
    ),
    Op(
        "attention",
        "softmax(scale · q·k) · v over the past, causal, within a window, scores capped",
        ("q", "k", "v"),
        _attention_shape,
        _attention,
        attrs={
            "layer": Attr((int,)),
            "num_heads": COUNT,
            "num_kv_heads": COUNT,
            "head_dim": COUNT,
            "scale": Attr(NUMBER, check=_positive),
            "window": Attr((int, NONE), None, _positive),
            "softcap": Attr((*NUMBER, NONE), None, _positive),
        },
    ),
    Op(
        "activation",
        "fn of each number",
        ("x",),
        _same,
        lambda call: numerics.ACTIVATIONS[call.attrs["fn"]](call.inputs[0]),
        attrs={"fn": FN},
    ),
    Op("glu", "fn(gate) · up", ("gate", "up"), _same, _glu, attrs={"fn": FN}),
    Op("add", "x + y", ("x", "y"), _same, lambda call: call.inputs[0] + call.inputs[1]),
    Op("mul", "x · by, · y if given", ("x", "y?"), _same, _mul, attrs={"by": Attr(NUMBER, 1.0)}),
    Op(
        "softcap",
        "cap · tanh(x / cap)",
        ("x",),
        _same,
        lambda call: numerics.softcap(call.inputs[0], call.attrs["cap"]),
        attrs={"cap": Attr(NUMBER, check=_positive)},
    ),
    Op(
        "moe",
        "each row through its top_k experts by softmax of the router's scores",
        ("x", "scores"),
        _moe_shape,
        _moe,
        weights=("gate.*", "up.*", "down.*"),
        attrs={
            "num_experts": COUNT,
            "top_k": COUNT,
            "normalize": Attr((bool,), True),  # the chosen shares add up to one
            "fn": FN,
            "act": ACT,
        },
    ),
    Op(
        "slice",
        "columns start:stop",
        ("x",),
        _slice_shape,
        lambda call: call.inputs[0][:, call.attrs["start"] : call.attrs["stop"]].copy(),
        attrs={"start": Attr((int,)), "stop": Attr((int,))},
    ),
    Op(
        "gather",
        "the rows of these numbers",
        ("x", "rows"),
        _gather_shape,
        lambda call: call.inputs[0][call.inputs[1]],
    ),
    Op(
        "lora",
        "base + x · aᵀ · bᵀ with the matrices of the row's slot; slot -1 adds nothing",
        ("base", "x", "adapters"),
        _lora_shape,
        _lora,
        weights=("a", "b"),
    ),
    Op(
        "all_reduce",
        "the sum over the ranks, in rank order",
        ("x",),
        _same,
        lambda call: call.memory.all_reduce(call.inputs[0]),
    ),
    Op(
        "all_gather",
        "the ranks' columns side by side",
        ("x",),
        _all_gather_shape,
        lambda call: call.memory.all_gather(call.inputs[0]),
        attrs={"world_size": COUNT},
    ),
    Op(
        "send", "hand x to a rank; its value is x", ("x",), _same, _send, attrs={"to": Attr((int,))}
    ),
    Op(
        "recv",
        "wait for rows from a rank",
        (),
        _recv_shape,
        lambda call: call.memory.recv(call.attrs["source"]),
        attrs={"source": Attr((int,)), "width": COUNT},
    ),
):
    register_op(_op)
