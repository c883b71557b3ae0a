"""Act: sets the precision in which chosen linears and experts take their activations.

`q8:<block>` scales each block of a row as it comes. `static` has one scale for a linear, given
beforehand and by name; `measured_scales` finds them, by what the reference sees on some prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from llama_core.contracts.backend import Support
from llama_core.contracts.rewrite import Phase
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.errors import ConfigError
from llama_core.model import ops
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.numerics import Array
from llama_core.model.op_backend import OpBackend
from llama_core.model.weights import DenseWeights, OverlayWeights, Weights


class SetAct:
    """`only` and `skip` are patterns of node names; the head and routers stay exact by default."""

    phase: Phase = "quantize"
    neutral = False

    def __init__(
        self,
        act: str,
        only: str = "*",
        skip: tuple[str, ...] = ("lm_head", "*.router"),
        scales: Mapping[str, float] | None = None,  # of `static`, by node
    ) -> None:
        if scales is not None and act != "static":
            raise ConfigError(f"scales go with act 'static', not with {act!r}")
        self.act = act
        self.only = only
        self.skip = tuple(skip)
        self.scales = dict(scales or {})

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        chosen = {node.name: node for node in graph.nodes if self._takes(node)}
        done = f"act({self.act})"
        if self.act != "static":
            return graph.map(
                lambda node: _exact(node).with_attrs(act=self.act) if node.name in chosen else node,
                done,
            ).validate(), weights
        problems = [f"{name}: {why}" for name, node in chosen.items() if (why := self._lacks(node))]
        if problems:
            raise GraphError("static activations", problems)
        names = {name: f"{name}.input_scale" for name in chosen}
        steps = {names[n]: np.array([self.scales[n]], np.float32) for n in chosen}
        new = graph.map(
            lambda node: (
                node.with_attrs(act="static").with_weights(
                    {**node.weights, "input_scale": names[node.name]}
                )
                if node.name in chosen
                else node
            ),
            done,
        )
        shapes = graph.shapes.also(**dict.fromkeys(steps, (1,)))
        new = replace(new, shapes=shapes).validate()
        return new, OverlayWeights(weights, DenseWeights(steps))

    def _takes(self, node: Node) -> bool:
        return (
            "act" in node.attrs
            and fnmatchcase(node.name, self.only)
            and not any(fnmatchcase(node.name, pattern) for pattern in self.skip)
        )

    def _lacks(self, node: Node) -> str | None:
        """Why a node cannot have a scale of its own, or None."""
        if node.op != "linear":
            return f"{node.op} has no fixed scale for its activations; name it in `skip`"
        if node.name not in self.scales:
            return "no scale is given for it"
        if not 0 < self.scales[node.name] < np.inf:
            return f"its scale is {self.scales[node.name]}, and must be above 0"
        return None


def _exact(node: Node) -> Node:
    """Without the scale that another act left it."""
    return node.with_weights({k: w for k, w in node.weights.items() if k != "input_scale"})


def measured_scales(
    graph: Graph, weights: Weights, prompts: Sequence[Sequence[int]]
) -> dict[str, float]:
    """For every linear, the largest number that it reads on these prompts, as 127 steps."""
    watching = _Watching()
    longest = max((len(prompt) for prompt in prompts), default=0)
    if not longest:
        raise ConfigError("scales are measured on prompts, and there are none")
    kv_bytes = _bytes(graph, watching, longest)
    plan = Plan(max_tokens=longest, block_size=longest, kv_bytes=kv_bytes)
    program = watching.compile(graph, weights, plan)
    for prompt in prompts:
        num = len(prompt)
        if num:
            tables = tuple(([0],) for _ in program.kv.groups)
            batch = Batch(
                np.array(prompt, np.int32),
                np.arange(num, dtype=np.int32),
                np.array([0, num], np.int32),
                tables,
                np.full(num, Want.LOGITS, np.uint8),
            )
            program.submit(batch).result()
    program.close()
    return {name: (most or 1.0) / 127 for name, most in watching.most.items()}


def _bytes(graph: Graph, backend: OpBackend, num_tokens: int) -> int:
    """Keys and values of one prompt."""
    width = np.dtype(backend.dtype).itemsize
    numbers = sum(len(h.layers) * 2 * h.num_heads * h.head_dim for h in graph.kv_groups)
    return max(1, numbers * width * num_tokens)


class _Watching(OpBackend):
    """The reference, with an eye on what linears read."""

    name = "measuring"

    def __init__(self) -> None:
        super().__init__()
        self.most: dict[str, float] = {}

    def supports(self, node: Node) -> Support:
        return Support() if node.op in ops.OPS else Support(f"there is no op '{node.op}'")

    def op_linear(self, call: ops.Call) -> Array:
        most = float(np.abs(call.inputs[0]).max(initial=0))
        self.most[call.node.name] = max(most, self.most.get(call.node.name, 0.0))
        found: Array = ops.op("linear").reference(call)
        return found
