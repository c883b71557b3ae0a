"""Act: sets the precision in which chosen linears and experts take their activations.

`q8:<block>` scales each block of a row as it comes, to codes -127..127; `q7:<block>` to -63..63,
which a processor without dot products multiplies by bytes a fourth faster. `auto` is `q8` with a
block as long as a group of the weights, wherever those are codes and nothing was chosen yet.
`static` has one scale for a linear, given beforehand and by name; `measured_scales` finds them, by
what the reference sees on some prompts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np

from llama_core.contracts.backend import Support
from llama_core.contracts.rewrite import Phase
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.errors import ConfigError, OptionsError
from llama_core.model import ops
from llama_core.model.encodings.grouped import AffineLayout
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.numerics import ACT, Array
from llama_core.model.op_backend import OpBackend
from llama_core.model.weights import DenseWeights, OverlayWeights, Weights


class SetAct:
    """`only` and `skip` are patterns of node names. Routers stay exact by default, and the head
    where it is not `auto` that is asked for."""

    phase: Phase = "quantize"
    neutral = False

    def __init__(
        self,
        act: str,
        only: str = "*",
        skip: tuple[str, ...] | None = None,
        scales: Mapping[str, float] | None = None,  # of `static`, by node
    ) -> None:
        if act != "auto" and not ACT.fullmatch(act):
            raise OptionsError(
                f"act is {act!r} and must be auto, none, static, q8:<block> or q7:<block>",
                remedy="For instance: q8:32",
            )
        if scales is not None and act != "static":
            raise ConfigError(f"scales go with act 'static', not with {act!r}")
        self.act = act
        self.only = only
        if skip is None:
            skip = ("*.router",) if act == "auto" else ("lm_head", "*.router")
        self.skip = tuple(skip)
        self.scales = dict(scales or {})

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        chosen = {node.name: node for node in graph.nodes if self._takes(node)}
        if self.act == "static":
            return self._static(chosen, graph, weights)
        acts = dict.fromkeys(chosen, self.act)
        if self.act == "auto":
            fitting = {name: _fitting(node, graph, weights) for name, node in chosen.items()}
            acts = {name: act for name, act in fitting.items() if act is not None}
        new = graph.map(
            lambda node: (
                _exact(node).with_attrs(act=acts[node.name]) if node.name in acts else node
            ),
            f"act({self.act})",
        )
        return new.validate(), weights

    def _static(
        self, chosen: Mapping[str, Node], graph: Graph, weights: Weights
    ) -> tuple[Graph, Weights]:
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
            "act(static)",
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


def _fitting(node: Node, graph: Graph, weights: Weights) -> str | None:
    """The block that goes with a node's codes; None where its weights are none, or it has an act.

    A row of one group gets blocks of 128: longer ones cost accuracy, shorter ones time.
    """
    if node.attrs["act"] != "none":
        return None
    blocks = []
    for weight in node.weights.values():
        if len(graph.shapes[weight]) != 2:
            continue  # a bias
        _, encoding = weights.about(weight)
        if not isinstance(encoding, AffineLayout):
            return None
        scheme = encoding.scheme()
        span = scheme.group * (scheme.per_super or 1)  # 0: the whole row
        blocks.append(min(max(span, 32), 256) if span else 128)
    return f"q8:{min(blocks)}" if blocks else None


def activations(graph: Graph) -> str:
    """The acts of a graph's linears and experts, the commonest first, for people to read."""
    counts = Counter(str(node.attrs["act"]) for node in graph.nodes if "act" in node.attrs)
    return " ".join(act for act, _ in counts.most_common()) or "none"


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
