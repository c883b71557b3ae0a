"""A backend that walks the graph and calls one method per op: the smallest honest backend.

A subclass gives a method `op_<name>(call)` for each op it computes, and says how its arrays are
made from NumPy's and back. Everything else is here: checking, memory of past tokens, adapters,
collectives, outputs. An op without a method runs on the NumPy reference, and that is announced.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.backend import Device, Devices, Support
from llama_core.contracts.parallelism import Communicator
from llama_core.contracts.program import KVLayout
from llama_core.contracts.step import Batch, Output, Plan, Want
from llama_core.contracts.timing import Timing
from llama_core.model import batch as batches
from llama_core.model import ops, programs
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.numerics import Array
from llama_core.model.paged import PagedMemory
from llama_core.model.programs import Done
from llama_core.model.weights import Weights


class OpBackend:
    """Subclass it, name it, and give it the ops that you compute."""

    name = "op"
    invariance: Literal["bitwise", "none"] = "none"
    dtype: type[np.floating[Any]] = np.float32

    def __init__(self, announcements: Announcements | None = None) -> None:
        self.announcements = announcements or Announcements()

    def devices(self) -> Devices:
        return Devices((Device("cpu", "cpu", "NumPy", 0),))

    def upload(self, array: Array) -> Any:
        """An array of NumPy's as one of ours."""
        return array

    def download(self, array: Any) -> Array:
        """And back."""
        return np.asarray(array)

    def supports(self, node: Node) -> Support:
        if hasattr(self, f"op_{node.op}"):
            return Support()
        return Support(f"backend '{self.name}' has no '{node.op}'")

    def compile(self, graph: Graph, weights: Weights, plan: Plan) -> OpProgram:
        graph.validate()
        problems = [
            f"{node.name}: {node.op} has no reference either"
            for node in graph.nodes
            if node.op not in ops.OPS
        ] + graph.weight_problems(weights)
        collective = [n.name for n in graph.nodes if n.op in COLLECTIVES]
        if collective and plan.communicator is None:
            problems.append(
                f"{collective[0]} talks to other ranks, and the plan has no communicator"
            )
        if problems:
            raise GraphError(f"backend '{self.name}' cannot run {graph.architecture}", problems)
        for op in dict.fromkeys(n.op for n in graph.nodes if not self.supports(n)):
            count = sum(n.op == op and not self.supports(n) for n in graph.nodes)
            self.announcements.fallback(
                f"backend '{self.name}' runs {count} '{op}' nodes on the NumPy reference"
            )
        return OpProgram(self, graph, weights, plan)


COLLECTIVES = ("all_reduce", "all_gather", "send", "recv")


class OpProgram:
    """A graph with its weights and memory, stepped node by node in the order they stand."""

    samples = frozenset({"greedy"})

    def __init__(self, backend: OpBackend, graph: Graph, weights: Weights, plan: Plan) -> None:
        self.invariance = backend.invariance
        self.vocab_size = graph.vocab_size
        self.graph = graph
        self.plan = plan
        self._backend = backend
        self._weights = weights
        self._memory = PagedMemory(graph, plan, backend.dtype)
        self._held: dict[tuple[str, bool], Any] = {}  # weight and whether uploaded: its numbers
        self._sampled_T: Array = np.zeros(0, np.int32)
        self._last_use = {value: node.name for node in graph.nodes for value in node.inputs}
        self._times: list[Timing] | None = None  # of the last step, while a clock is held to it
        self._closed = False

    @property
    def kv(self) -> KVLayout:
        return self._memory.layout

    def submit(self, batch: Batch) -> Done:
        programs.check_open(self._closed)
        batches.check(batch, self.vocab_size, self.graph.hidden_size, self.kv, self.plan)
        programs.check_sampling(batch, self.samples)
        tokens_T = programs.tokens_of(batch, self._sampled_T)
        wanted_R = np.flatnonzero(batch.want_T != Want.NOTHING)
        slots_S = np.full(len(batch.starts_S1) - 1, -1, np.int32)
        if batch.adapters_S is not None:
            slots_S = batch.adapters_S
        values = self._walk(
            batch,
            {
                "tokens": tokens_T,
                "positions": batch.positions_T,
                "adapters": np.repeat(slots_S, np.diff(batch.starts_S1)),
                "rows": wanted_R,
            },
        )
        return Done(self._output(batch, wanted_R, values))

    def _walk(self, batch: Batch, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run every node; give the graph's outputs as NumPy arrays."""
        backend, kept = self._backend, set(self.graph.outputs.values())
        times = self._times = None if self._times is None else []
        submitted = began = time.perf_counter_ns()
        values: dict[str, tuple[Any, bool]] = {name: (x, False) for name, x in inputs.items()}
        memory = Step(self, batch)
        for node in self.graph.nodes:
            native = getattr(backend, f"op_{node.op}", None) if backend.supports(node) else None
            there = native is not None
            given = [self._moved(values[value], there) for value in node.inputs]
            weights = {role: self._weight(w, there) for role, w in node.weights.items()}
            run = native if native is not None else ops.op(node.op).reference
            values[node.name] = (run(ops.Call(node, given, weights, memory)), there)
            if times is not None:
                ended = time.perf_counter_ns()
                times.append(Timing(node.name, node.op, began - submitted, ended - began))
                began = ended
            for value in set(node.inputs) - kept:
                if self._last_use[value] == node.name and value not in inputs:
                    del values[value]
        return {
            name: self._moved(values[value], False) for name, value in self.graph.outputs.items()
        }

    def _moved(self, value: tuple[Any, bool], there: bool) -> Any:
        array, is_there = value
        if is_there == there:
            return array
        return self._backend.upload(array) if there else self._backend.download(array)

    def _weight(self, name: str, there: bool) -> Any:
        """A weight's numbers, decoded when first needed."""
        if (name, there) not in self._held:
            array = np.ascontiguousarray(self._weights[name].decode(), self._backend.dtype)
            self._held[name, there] = self._backend.upload(array) if there else array
        return self._held[name, there]

    def _output(self, batch: Batch, wanted_R: Array, values: Mapping[str, Array]) -> Output:
        want_R = batch.want_T[wanted_R]
        logits_R, hidden_R = want_R == Want.LOGITS, want_R == Want.HIDDEN
        tokens_R = want_R == Want.TOKEN
        self._sampled_T = np.full(len(batch.tokens_T), -1, np.int32)
        logits_RV, hidden_RD = values.get("logits"), values.get("hidden")
        if logits_RV is None:
            return Output()
        odd_R = wanted_R[~hidden_R & ~np.isfinite(logits_RV).all(axis=1)]
        programs.note_not_finite(batch, odd_R, self._backend.announcements)
        tokens = None
        if tokens_R.any():
            tokens = np.argmax(logits_RV[tokens_R], axis=1).astype(np.int32)
            highest_R = logits_RV[tokens_R][np.arange(len(tokens)), tokens]
            tokens[~np.isfinite(highest_R)] = -1  # NaN counts as the highest
            self._sampled_T[wanted_R[tokens_R]] = tokens
        wants_hidden = hidden_RD is not None and hidden_R.any()
        return Output(
            logits_RV[logits_R] if logits_R.any() else None,
            hidden_RD[hidden_R] if hidden_RD is not None and wants_hidden else None,
            tokens,
        )

    def load_adapter(self, slot: int, adapter: Mapping[str, programs.Pair]) -> None:
        """By node: a [rank, in] and b [out, rank], scale included; other nodes add nothing."""
        for node, pair in programs.adapted(self.graph, self.plan, slot, adapter):
            for axis, role in enumerate(("a", "b")):
                slots = self._weight(node.weights[role], False).copy()
                slots[slot] = 0
                if pair is not None:
                    part = pair[axis]
                    slots[slot][: part.shape[0], : part.shape[1]] = part
                self._held[node.weights[role], False] = slots
                self._held.pop((node.weights[role], True), None)

    def keep_times(self, on: bool) -> None:
        """Hold a clock to every node from the next step on, or put it away."""
        self._times = [] if on else None

    def times(self) -> Sequence[Timing]:
        found = tuple(self._times or ())
        if self._times is not None:
            self._times = []
        return found

    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        programs.check_copies(pairs, self.kv)
        self._memory.copy(pairs)

    def close(self) -> None:
        self._closed = True
        self._held.clear()


class Step:
    """What the ops of one step may ask: memory, vectors in place of tokens, and the other ranks."""

    def __init__(self, program: OpProgram, batch: Batch) -> None:
        self._program = program
        self._batch = batch

    def attend(self, q: Array, k: Array, v: Array, attrs: Mapping[str, Any]) -> Array:
        return self._program._memory.attend(self._batch, q, k, v, attrs)

    def embed(self, table_VD: Array, tokens_T: Array) -> Array:
        x_TD = table_VD[np.maximum(tokens_T, 0)]
        if self._batch.embeddings_TD is not None:
            given = tokens_T == -1
            x_TD[given] = self._batch.embeddings_TD[given]
        return x_TD

    @property
    def _line(self) -> Communicator:
        line = self._program.plan.communicator
        assert line is not None, "compile has checked that there is one"
        return line

    def all_reduce(self, x: Array) -> Array:
        return self._line.all_reduce(x)

    def all_gather(self, x: Array) -> Array:
        return self._line.all_gather(x, axis=-1)

    def send(self, x: Array, to: int) -> None:
        self._line.send(x, to)

    def recv(self, source: int) -> Array:
        return self._line.recv(source)
