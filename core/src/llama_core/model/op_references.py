"""What each op of the vocabulary computes, in NumPy, on what a `Call` holds.

The arithmetic is in `numerics` and `rope`; here it is given a node's inputs, weights and
attributes. These are the definitions that every backend is compared with.
"""

from __future__ import annotations

import numpy as np

from llama_core.model import numerics
from llama_core.model import rope as angles
from llama_core.model.numerics import Array
from llama_core.model.op import Call


def linear(call: Call) -> Array:
    w = call.weights
    return numerics.linear(
        call.inputs[0], w["weight"], w.get("bias"), call.attrs["act"], w.get("input_scale")
    )


def rope(call: Call) -> Array:
    a = call.attrs
    cos, sin = angles.table(a["theta"], a["rotary_dim"], a["scaling"], call.inputs[1])
    return numerics.rope(call.inputs[0], cos, sin, a["head_dim"])


def mul(call: Call) -> Array:
    x = call.inputs[0] * call.inputs[0].dtype.type(call.attrs["by"])
    return x if len(call.inputs) == 1 else x * call.inputs[1]


def glu(call: Call) -> Array:
    return numerics.ACTIVATIONS[call.attrs["fn"]](call.inputs[0]) * call.inputs[1]


def moe(call: Call) -> Array:
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


def attention(call: Call) -> Array:
    q, k, v = call.inputs
    return call.memory.attend(q, k, v, call.attrs)


def lora(call: Call) -> Array:
    base_TN, x_TK, slots_T = call.inputs
    out_TN = base_TN.copy()
    for row, slot in enumerate(slots_T.tolist()):
        if slot >= 0:
            a_RK, b_NR = call.weights["a"][slot], call.weights["b"][slot]
            out_TN[row] += numerics.lora(x_TK[row], a_RK, b_NR)
    return out_TN


def send(call: Call) -> Array:
    call.memory.send(call.inputs[0], call.attrs["to"])
    x: Array = call.inputs[0]
    return x


def rms_norm(call: Call) -> Array:
    a = call.attrs
    return numerics.rms_norm(call.inputs[0], call.weights["weight"], a["eps"], a["offset"])


def layer_norm(call: Call) -> Array:
    w = call.weights
    return numerics.layer_norm(call.inputs[0], w["weight"], w.get("bias"), call.attrs["eps"])
