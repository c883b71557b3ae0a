"""A graph on torch with its weights and memory: one step is its segments, run one after another.

The graph may run in parts: where no row wants logits, what leads to them alone is left out.

Legend in `llama_core.contracts.step`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from llama_core.announce import Announcements
from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Plan, Want
from llama_core.model import batch as batches
from llama_core.model import programs
from llama_core.model.graph import Graph, Node
from llama_core.model.weights import Weights
from llama_plugin_torch import adapters
from llama_plugin_torch.answers import Answer, Sampled
from llama_plugin_torch.arithmetic import NATIVE
from llama_plugin_torch.memory import GroupShape, LayerShape, Memory
from llama_plugin_torch.segments import Cutter, Segment, Single, live
from llama_plugin_torch.singles import SINGLES, Step, on_reference
from llama_plugin_torch.weights import load


class TorchProgram:
    """What the engine steps. torch promises no bits: `invariance` is `none`."""

    invariance: Literal["bitwise", "none"] = "none"
    samples = frozenset({"greedy"})

    def __init__(
        self,
        graph: Graph,
        weights: Weights,
        plan: Plan,
        *,
        device: torch.device,
        dtype: torch.dtype,
        compiled: bool,
        announcements: Announcements,
    ) -> None:
        self.vocab_size = graph.vocab_size
        self.graph = graph
        self.plan = plan
        self.device = device
        self.dtype = dtype
        self._announcements = announcements
        self._weights = load(graph, weights, dtype, device, announcements)
        self._memory = Memory(_shapes(graph), plan, dtype, device, graph.context_length)
        self._cutter = Cutter(compiled=compiled)
        self._parts: dict[tuple[str, ...], tuple[Segment | Single, ...]] = {}
        self._sampled = Sampled(device)
        self._closed = False

    @property
    def kv(self) -> KVLayout:
        return self._memory.layout

    def submit(self, batch: Batch) -> Answer:
        programs.check_open(self._closed)
        batches.check(batch, self.vocab_size, self.graph.hidden_size, self.kv, self.plan)
        programs.check_sampling(batch, self.samples)
        with torch.inference_mode():
            tokens = self._sampled.put_in(batch.tokens_T, batch.previous_T)
            step = Step(self.graph, self.plan, batch, tokens, self._memory, self.dtype, self.device)
            values = self._walk(step, self._wanted(batch))
            return Answer(
                batch,
                values.get("logits"),
                values.get("hidden"),
                self._sampled,
                self._announcements,
            )

    def _wanted(self, batch: Batch) -> tuple[str, ...]:
        """Which of the graph's outputs any row wants."""
        wants = set(np.unique(batch.want_T).tolist())
        logits, hidden = bool(wants & {Want.LOGITS, Want.TOKEN}), Want.HIDDEN in wants
        asked = {"logits": logits, "hidden": hidden}
        return tuple(name for name in self.graph.outputs if asked.get(name, True))

    def _walk(self, step: Step, outputs: tuple[str, ...]) -> dict[str, Tensor]:
        if outputs not in self._parts:
            nodes = live(self.graph, outputs, _acts)
            kept = [self.graph.outputs[name] for name in outputs]
            self._parts[outputs] = self._cutter.cut(nodes, kept)
        values: dict[str, Tensor] = step.inputs
        for part in self._parts[outputs]:
            if isinstance(part, Segment):
                given = [values[name] for name in part.inputs]
                found = part.run(given, [self._weights[name] for name in part.weights])
                values.update(zip(part.outputs, found, strict=True))
            else:
                node = part.node
                run: Callable[..., Tensor] = SINGLES.get(node.op, on_reference)
                weights = {role: self._weights[name] for role, name in node.weights.items()}
                values[node.name] = run(step, node, [values[v] for v in node.inputs], weights)
            for name in part.done_with:
                del values[name]
        return {name: values[self.graph.outputs[name]] for name in outputs}

    def load_adapter(self, slot: int, adapter: Mapping[str, programs.Pair]) -> None:
        """By node: a [rank, in] and b [out, rank], scale included; other nodes add nothing."""
        adapters.load(self.graph, self.plan, self._weights, slot, adapter)

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        with torch.inference_mode():
            self._memory.copy(pairs)

    def close(self) -> None:
        self._closed = True
        self._weights.clear()
        self._parts.clear()
        self._memory.close()


def _acts(node: Node) -> bool:
    """Whether a node does more than give its value."""
    return node.op not in NATIVE and node.op not in ("embed", "moe", "lora")


def _shapes(graph: Graph) -> list[GroupShape]:
    shapes = []
    for heads in graph.kv_groups:
        shape: Any = (heads.num_heads, heads.head_dim)
        layers = tuple(LayerShape(layer, shape, shape) for layer in heads.layers)
        shapes.append(GroupShape(layers, heads.window))
    return shapes
