"""The vocabulary: every operation once, with inputs, attributes, shape rule and NumPy reference.

What an op is stands in `op`, the rules in `op_shapes`, the computing in `op_references`; here they
meet under each op's name, and no backend is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from llama_core.model import numerics, op_references, op_shapes
from llama_core.model.graph import FrozenMap
from llama_core.model.op import (
    OPS,
    Attr,
    Call,
    Memory,
    Op,
    ShapeError,
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
    return f"is {value!r} and must be none, static, q8:<block> or q7:<block>"


def _moe_act(value: str) -> str | None:
    """Experts have no scale of their own that could be fixed."""
    if value == "static":
        return "must be none, q8:<block> or q7:<block>, not static"
    return _act(value)


NONE = type(None)
COUNT = Attr((int,), check=_positive)
NUMBER = (float, int)
EPS = Attr(NUMBER, 1e-6, _positive)
ACT = Attr((str,), "none", _act)
FN = Attr((str,), check=_one_of(*numerics.ACTIVATIONS))


# ---------------------------------------------------------------- the vocabulary

for _op in (
    Op(
        "embed",
        "the table's row for each token",
        ("tokens",),
        op_shapes.embed,
        lambda call: call.memory.embed(call.weights["weight"], call.inputs[0]),
        weights=("weight",),
    ),
    Op(
        "rms_norm",
        "x / sqrt(mean(x²) + eps) · (weight + offset), over rows or heads as wide as the weight",
        ("x",),
        op_shapes.norm,
        op_references.rms_norm,
        weights=("weight",),
        attrs={"eps": EPS, "offset": Attr(NUMBER, 0.0)},
    ),
    Op(
        "layer_norm",
        "(x - mean) / sqrt(variance + eps) · weight + bias",
        ("x",),
        op_shapes.norm,
        op_references.layer_norm,
        weights=("weight", "bias?"),
        attrs={"eps": EPS},
    ),
    Op(
        "linear",
        "x · weightᵀ + bias, x in the precision of `act`",
        ("x",),
        op_shapes.linear,
        op_references.linear,
        weights=("weight", "bias?", "input_scale?"),
        attrs={"act": ACT},
    ),
    Op(
        "rope",
        "turn the first rotary_dim numbers of each head by the row's position",
        ("x", "positions"),
        op_shapes.rope,
        op_references.rope,
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
        op_shapes.attention,
        op_references.attention,
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
        op_shapes.same,
        lambda call: numerics.ACTIVATIONS[call.attrs["fn"]](call.inputs[0]),
        attrs={"fn": FN},
    ),
    Op("glu", "fn(gate) · up", ("gate", "up"), op_shapes.same, op_references.glu, attrs={"fn": FN}),
    Op("add", "x + y", ("x", "y"), op_shapes.same, lambda call: call.inputs[0] + call.inputs[1]),
    Op(
        "mul",
        "x · by, · y if given",
        ("x", "y?"),
        op_shapes.same,
        op_references.mul,
        attrs={"by": Attr(NUMBER, 1.0)},
    ),
    Op(
        "softcap",
        "cap · tanh(x / cap)",
        ("x",),
        op_shapes.same,
        lambda call: numerics.softcap(call.inputs[0], call.attrs["cap"]),
        attrs={"cap": Attr(NUMBER, check=_positive)},
    ),
    Op(
        "moe",
        "each row through its top_k experts by softmax of the router's scores",
        ("x", "scores"),
        op_shapes.moe,
        op_references.moe,
        weights=("gate.*", "up.*", "down.*"),
        attrs={
            "num_experts": COUNT,
            "top_k": COUNT,
            "normalize": Attr((bool,), True),  # the chosen shares add up to one
            "fn": FN,
            "act": Attr((str,), "none", _moe_act),
        },
    ),
    Op(
        "slice",
        "columns start:stop",
        ("x",),
        op_shapes.columns,
        lambda call: call.inputs[0][:, call.attrs["start"] : call.attrs["stop"]].copy(),
        attrs={"start": Attr((int,)), "stop": Attr((int,))},
    ),
    Op(
        "gather",
        "the rows of these numbers",
        ("x", "rows"),
        op_shapes.gather,
        lambda call: call.inputs[0][call.inputs[1]],
    ),
    Op(
        "lora",
        "base + x · aᵀ · bᵀ with the matrices of the row's slot; slot -1 adds nothing",
        ("base", "x", "adapters"),
        op_shapes.lora,
        op_references.lora,
        weights=("a", "b"),
    ),
    Op(
        "all_reduce",
        "the sum over the ranks, in rank order",
        ("x",),
        op_shapes.same,
        lambda call: call.memory.all_reduce(call.inputs[0]),
    ),
    Op(
        "all_gather",
        "the ranks' columns side by side",
        ("x",),
        op_shapes.all_gather,
        lambda call: call.memory.all_gather(call.inputs[0]),
        attrs={"world_size": COUNT},
    ),
    Op(
        "send",
        "hand x to a rank; its value is x",
        ("x",),
        op_shapes.same,
        op_references.send,
        attrs={"to": Attr((int,))},
    ),
    Op(
        "recv",
        "wait for rows from a rank",
        (),
        op_shapes.recv,
        lambda call: call.memory.recv(call.attrs["source"]),
        attrs={"source": Attr((int,)), "width": COUNT},
    ),
):
    register_op(_op)
