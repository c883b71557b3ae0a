"""The ops that are more than functions of tensors: memory, experts, adapters, other ranks.

Each takes the step, the node, its inputs and its weights by role. An op that torch has no function
for runs on its NumPy reference, over a copy on the processor; the backend has announced it.

Legend in `llama_core.contracts.step`; E experts, K inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from llama_core.contracts.parallelism import Communicator
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.model import ops, rope
from llama_core.model.graph import Graph, Node
from llama_plugin_torch.arithmetic import ACTIVATIONS, in_precision, route
from llama_plugin_torch.attention import Reading, attend, reading
from llama_plugin_torch.memory import Memory
from llama_plugin_torch.segments import rope_table

Array = NDArray[Any]
Inputs = Sequence[Tensor]
Roles = Mapping[str, Tensor]


class Step:
    """One batch on the device, and what its nodes share."""

    def __init__(
        self,
        graph: Graph,
        plan: Plan,
        batch: Batch,
        tokens_T: Tensor,
        memory: Memory,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.plan, self.batch, self.memory = plan, batch, memory
        self.dtype, self.device = dtype, device
        self._readings: dict[int, Reading] = {}
        self._slots: dict[str, list[tuple[int, Tensor]]] = {}
        slots_S = np.full(len(batch.starts_S1) - 1, -1, np.int32)
        if batch.adapters_S is not None:
            slots_S = batch.adapters_S
        self.adapted = bool((slots_S >= 0).any())
        self.inputs = {
            "tokens": tokens_T,
            "positions": self._up(batch.positions_T.astype(np.int64)),
            "adapters": self._up(np.repeat(slots_S, np.diff(batch.starts_S1)).astype(np.int64)),
            "rows": self._up(np.flatnonzero(batch.want_T != Want.NOTHING)),
        }
        for node in graph.of("rope"):
            cos, sin = rope_table(node)
            if cos not in self.inputs:
                a = node.attrs
                tables = rope.table(a["theta"], a["rotary_dim"], a["scaling"], batch.positions_T)
                self.inputs[cos], self.inputs[sin] = map(self._up, tables)

    def _up(self, x: Array) -> Tensor:
        return torch.from_numpy(x).to(self.device)

    def values(self, x: Array) -> Tensor:
        """Numbers from outside, in the type that is computed in."""
        return torch.from_numpy(np.array(x)).to(self.device, self.dtype)

    def reading(self, layer: int) -> Reading:
        """What the group of a layer reads and writes, worked out by the first of its layers."""
        group = self.memory.group_of[layer]
        if group not in self._readings:
            window = self.memory.layout.groups[group].window
            self._readings[group] = reading(self.batch, group, window, self.memory, self.device)
        return self._readings[group]

    def rows_by_slot(self, value: str, slots_T: Tensor) -> list[tuple[int, Tensor]]:
        """The adapter slots in use, and the rows that use each."""
        if value not in self._slots:
            used = sorted(set(slots_T.tolist()) - {-1})
            self._slots[value] = [(slot, (slots_T == slot).nonzero()[:, 0]) for slot in used]
        return self._slots[value]

    @property
    def line(self) -> Communicator:
        assert self.plan.communicator is not None, "compile has checked that there is one"
        return self.plan.communicator


def _embed(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    return _looked_up(step, inputs[0], weights["weight"])


def _looked_up(step: Step, tokens_T: Tensor, table_VD: Tensor) -> Tensor:
    """Rows of the table, or the vectors that came in place of tokens."""
    x_TD = functional.embedding(tokens_T.clamp(min=0), table_VD)
    if step.batch.embeddings_TD is None:
        return x_TD
    given_TD = step.values(step.batch.embeddings_TD)
    return torch.where((tokens_T == -1)[:, None], given_TD, x_TD)


def _attention(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    q, k, v = inputs
    return attend(q, k, v, node.attrs, step.memory, step.reading(node.attrs["layer"]))


def _moe(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    """Expert by expert, each over the rows that chose it."""
    x_TD, scores_TE = inputs
    a, activate = node.attrs, ACTIVATIONS[node.attrs["fn"]]
    chosen_TE, shares_TE = route(scores_TE, a["top_k"], a["normalize"])
    x_TK = in_precision(x_TD, a["act"])
    out_TD = torch.zeros(x_TD.shape, device=x_TD.device)
    for expert in sorted(set(chosen_TE.flatten().tolist())):
        rows, place = (chosen_TE == expert).nonzero(as_tuple=True)
        x = x_TK[rows]
        gate = activate(functional.linear(x, weights[f"gate.{expert}"]))
        inner = in_precision(gate * functional.linear(x, weights[f"up.{expert}"]), a["act"])
        y = functional.linear(inner, weights[f"down.{expert}"])
        out_TD[rows] += shares_TE[rows, place][:, None] * y  # a row chooses an expert once
    return out_TD.to(x_TD.dtype)


def _lora(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    base_TN, x_TK, slots_T = inputs
    if not step.adapted:
        return base_TN
    out_TN = base_TN.clone()
    for slot, rows in step.rows_by_slot(node.inputs[2], slots_T):
        inner = functional.linear(x_TK[rows], weights["a"][slot])
        out_TN[rows] += functional.linear(inner, weights["b"][slot])
    return out_TN


def _down(x: Tensor) -> Array:
    return x.float().cpu().numpy()


def _all_reduce(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    return step.values(step.line.all_reduce(_down(inputs[0])))


def _all_gather(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    return step.values(step.line.all_gather(_down(inputs[0]), axis=-1))


def _send(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    step.line.send(_down(inputs[0]), node.attrs["to"])
    return inputs[0]


def _recv(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    return step.values(step.line.recv(node.attrs["source"]))


SINGLES: Mapping[str, Callable[[Step, Node, Inputs, Roles], Tensor]] = {
    "embed": _embed,
    "attention": _attention,
    "moe": _moe,
    "lora": _lora,
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "send": _send,
    "recv": _recv,
}


class _Memory:
    """What the reference of an op may ask, answered by the step."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self.all_reduce = step.line.all_reduce if step.plan.communicator else None
        self.send = step.line.send if step.plan.communicator else None
        self.recv = step.line.recv if step.plan.communicator else None

    def attend(self, q: Array, k: Array, v: Array, attrs: Mapping[str, Any]) -> Array:
        step = self._step
        given = step.values(q), step.values(k), step.values(v)
        return _down(attend(*given, attrs, step.memory, step.reading(attrs["layer"])))

    def embed(self, table_VD: Array, tokens_T: Array) -> Array:
        tokens = torch.from_numpy(np.array(tokens_T)).to(self._step.device)
        return _down(_looked_up(self._step, tokens, self._step.values(table_VD)))


def on_reference(step: Step, node: Node, inputs: Inputs, weights: Roles) -> Tensor:
    """An op of a plugin's own, by the reference it was registered with."""
    given = [x.cpu().numpy() if not x.is_floating_point() else _down(x) for x in inputs]
    held = {role: _down(x) for role, x in weights.items()}
    found = ops.op(node.op).reference(ops.Call(node, given, held, _Memory(step)))  # type: ignore[arg-type]
    return step.values(found)
