"""The program: a compiled graph with its memory, one native call a step.

Knows batches, sampling chains and adapters, and what of them the library wants as arrays. The
library checks every batch again, since other languages call it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Batch, DeviceSampling, Output, Plan, Want
from llama_core.contracts.timing import Timing
from llama_core.model import batch as batches
from llama_core.model import programs, rope
from llama_core.model.graph import Graph, GraphError, Node
from llama_core.model.programs import Done
from llama_core.model.weights import Weights
from llama_plugin_cpu import native
from llama_plugin_cpu.lower import Lowering, unsupported
from llama_plugin_cpu.turns import Turns, in_turn

if TYPE_CHECKING:
    from llama_plugin_cpu.backend import CpuBackend
    from llama_plugin_cpu.cache import Shelf

KV_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "q8": 1}
ROPE_STEP = 4096  # positions whose angles are computed at once, when the first of them is met
LOGITS, HIDDEN, TOKEN = int(Want.LOGITS), int(Want.HIDDEN), int(Want.TOKEN)
LINKS = {"temperature": 0, "top-k": 1, "top-p": 2, "min-p": 3, "greedy": 4, "sample": 5}
INT32, UINT8 = np.dtype(np.int32), np.dtype(np.uint8)
GREEDY = DeviceSampling()
TOGETHER = -2  # in place of a time: it ran with the instruction before it
_tier_lock = native.process_lock()


class CpuProgram:
    """A graph in native instructions."""

    invariance: Literal["bitwise", "none"] = "bitwise"
    samples = frozenset(LINKS)

    def __init__(self, backend: CpuBackend, graph: Graph, weights: Weights, plan: Plan) -> None:
        graph.validate()
        problems = [f"{n.name}: {why}" for n in graph.nodes if (why := unsupported(n))]
        problems += graph.weight_problems(weights)
        if problems:
            raise GraphError(f"backend 'cpu' cannot run {graph.architecture}", problems)
        self.graph = graph
        self.plan = plan
        self.vocab_size = graph.vocab_size
        self.kv = layout(graph, plan)
        self._ffi, self._lib = native.library()
        self.turns = Turns()
        self._sampled_T: NDArray[np.int32] = np.zeros(0, np.int32)
        self._reached = 0  # positions that have their angles
        self._clock: NDArray[np.int64] | None = None  # began and took, of each instruction
        self._pool = native.pool(backend.threads)
        self._handle = self._new(backend.tier)
        self._reached = min(ROPE_STEP, graph.context_length)
        self._lowering = self._lower(backend.cache().open(graph, weights), weights)
        self._announce(backend)

    def _new(self, tier: str) -> Any:
        g, plan, ffi, lib = self.graph, self.plan, self._ffi, self._lib
        limits = ffi.new(
            "llama_limits *",
            {
                "vocab_size": g.vocab_size,
                "hidden_size": g.hidden_size,
                "context_length": g.context_length,
                "max_tokens": plan.max_tokens,
                "max_sequences": plan.max_sequences,
                "block_size": plan.block_size,
                "num_blocks": self.kv.num_blocks,
                "kv_type": programs.KV_TYPES.index(plan.kv_dtype),
            },
        )
        out = ffi.new("llama_program **")
        with _tier_lock():
            if lib.llama_tier_use(ffi.NULL):  # as the environment has it now
                raise native.not_here()
            try:
                if tier != "auto":
                    native.check(lib.llama_tier_use(tier.encode()))
                native.check(lib.llama_program_new(self._pool.handle, limits, out))
            finally:
                lib.llama_tier_use(ffi.NULL)
        return out[0]

    def _lower(self, shelf: Shelf, weights: Weights) -> Lowering:
        self._lowering = Lowering(self._handle, self.graph, weights, shelf)
        try:
            self._lowering.run(lambda table: self._turn(table, 0, self._reached))
            shelf.done()
        finally:
            shelf.close()
        return self._lowering

    def _announce(self, backend: CpuBackend) -> None:
        for encoding, names in self._lowering.widened.items():
            if backend.announcements is not None:
                backend.announcements.fallback(
                    f"backend 'cpu' holds {len(names)} tensors in '{encoding}' as 32-bit floats"
                )

    def _turn(self, table: int, first: int, last: int) -> None:
        """Hand over the angles of positions first..last of a table."""
        theta, rotary_dim, scaling = self._lowering.ropes[table]
        cos, sin = rope.table(theta, rotary_dim, scaling, np.arange(first, last))
        cos, sin = (np.ascontiguousarray(x, np.float32) for x in (cos, sin))
        ffi = self._ffi
        self._check(
            self._lib.llama_program_rope(
                self._handle, table, rotary_dim // 2, last - first,
                ffi.from_buffer("float[]", cos), ffi.from_buffer("float[]", sin),
            )
        )  # fmt: skip

    def _reach(self, position: int) -> None:
        if position < self._reached or position >= self.graph.context_length:
            return
        wanted = (position // ROPE_STEP + 1) * ROPE_STEP
        last = min(wanted, self.graph.context_length)
        for table in range(len(self._lowering.ropes)):
            self._turn(table, self._reached, last)
        self._reached = last

    # ---- stepping --------------------------------------------------------------------------------

    @in_turn
    def submit(self, batch: Batch) -> Done:
        self._open()
        if not self._is_as_declared(batch):
            self._refuse(batch)
        if self._reached < self.graph.context_length and len(batch.positions_T):
            self._reach(int(batch.positions_T.max()))
        try:
            return Done(self._step(batch))
        except (native.CpuError, OverflowError):
            self._refuse(batch)  # core's words for what is wrong, and all of it at once
            raise

    def _is_as_declared(self, batch: Batch) -> bool:
        """What the library cannot see, being given pointers; the numbers it checks itself."""
        rows, sequences = len(batch.tokens_T), len(batch.starts_S1) - 1
        for array, length, dtype in (
            (batch.tokens_T, rows, INT32),
            (batch.positions_T, rows, INT32),
            (batch.starts_S1, sequences + 1, INT32),
            (batch.want_T, rows, UINT8),
            (batch.previous_T, rows, INT32),
            (batch.adapters_S, sequences, INT32),
        ):  # loops, since all of this is done for every token
            if array is not None and (array.shape != (length,) or array.dtype is not dtype):
                return False
        for one in (batch.sampling_S, *batch.blocks_G):
            if one is not None and len(one) != sequences:
                return False
        vectors = batch.embeddings_TD
        return (
            sequences >= 0
            and len(batch.blocks_G) == len(self.kv.groups)
            and (vectors is None or vectors.shape == (rows, self.graph.hidden_size))
        )

    def _refuse(self, batch: Batch) -> None:
        batches.check(batch, self.vocab_size, self.graph.hidden_size, self.kv, self.plan)

    def _step(self, batch: Batch) -> Output:
        ffi = self._ffi
        tokens_T = programs.tokens_of(batch, self._sampled_T)
        ids, starts = self._tables(batch)
        want_T = batch.want_T
        wants = want_T.tobytes()
        counts = {  # in a third of np.bincount's time
            LOGITS: wants.count(LOGITS),
            HIDDEN: wants.count(HIDDEN),
            TOKEN: wants.count(TOKEN),
        }
        kept: list[Any] = []

        def ints(array: Any) -> Any:
            kept.append(ffi.from_buffer("int32_t[]", np.ascontiguousarray(array, np.int32)))
            return kept[-1]

        c = ffi.new("llama_batch *")
        c.num_tokens, c.num_sequences = len(tokens_T), len(batch.starts_S1) - 1
        c.num_block_ids = len(ids)
        c.tokens, c.positions = ints(tokens_T), ints(batch.positions_T)
        c.starts, c.blocks, c.block_starts = ints(batch.starts_S1), ints(ids), ints(starts)
        c.want = want = ffi.from_buffer("uint8_t[]", np.ascontiguousarray(want_T, np.uint8))
        if batch.adapters_S is not None:
            c.adapters = ints(batch.adapters_S)
        if batch.embeddings_TD is not None:
            vectors = np.ascontiguousarray(batch.embeddings_TD, np.float32)
            c.embeddings = vectors_c = ffi.from_buffer("float[]", vectors)
            kept.append(vectors_c)
        if counts[TOKEN]:
            c.chains = self._chains(batch, kept)
        kept.append(want)
        logits, hidden, tokens, results = self._results(counts, kept)
        self._check(self._lib.llama_program_step(self._handle, c, results))
        if tokens is not None and len(tokens) == len(tokens_T):
            self._sampled_T = tokens.copy()  # the others are the caller's
        else:
            self._sampled_T = np.full(len(tokens_T), -1, np.int32)
            self._sampled_T[want_T == TOKEN] = tokens if tokens is not None else ()
        return Output(logits, hidden, tokens)

    def _results(self, counts: Any, kept: list[Any]) -> tuple[Any, Any, Any, Any]:
        """Arrays for what the rows want, and the struct that shows them."""
        ffi, has = self._ffi, self.graph.outputs
        results = ffi.new("llama_results *")
        logits = hidden = tokens = None
        if counts[LOGITS] and "logits" in has:
            logits = np.empty((counts[LOGITS], self.vocab_size), np.float32)
            results.logits = kept_logits = ffi.from_buffer("float[]", logits)
            kept.append(kept_logits)
        if counts[HIDDEN] and "hidden" in has:
            hidden = np.empty((counts[HIDDEN], self.graph.hidden_size), np.float32)
            results.hidden = kept_hidden = ffi.from_buffer("float[]", hidden)
            kept.append(kept_hidden)
        if counts[TOKEN]:
            tokens = np.empty(counts[TOKEN], np.int32)
            results.tokens = kept_tokens = ffi.from_buffer("int32_t[]", tokens)
            kept.append(kept_tokens)
        return logits, hidden, tokens, results

    def _tables(self, batch: Batch) -> tuple[Any, Any]:
        """Block ids one table after another, and where each begins."""
        tables = [table for group in batch.blocks_G for table in group]
        starts = np.array([0, *accumulate(map(len, tables))], np.int32)
        flat = [block_ids(table) for table in tables]
        if len(flat) == 1:
            return flat[0], starts
        return (np.concatenate(flat) if flat else np.zeros(1, np.int32)), starts

    def _chains(self, batch: Batch, kept: list[Any]) -> Any:
        ffi = self._ffi
        chains = ffi.new("llama_chain[]", max(1, len(batch.starts_S1) - 1))
        for sequence, given in enumerate(batch.sampling_S or [None] * len(chains)):
            one = given or GREEDY
            links = one.chain or (("greedy", 0.0),)
            if links[-1][0] not in ("greedy", "sample"):
                links = (*links, ("greedy", 0.0))
            unknown = [name for name, _ in links if name not in LINKS]
            if unknown:
                raise batches.BatchError(
                    [f"sequence {sequence}: it does not sample by {', '.join(unknown)}"]
                )
            names = ffi.new("int32_t[]", [LINKS[name] for name, _ in links])
            numbers = ffi.new("double[]", [number for _, number in links])
            kept += [names, numbers]
            chain = chains[sequence]
            chain.count, chain.links, chain.numbers = len(links), names, numbers
            chain.seed = one.seed & 0xFFFFFFFFFFFFFFFF
            chain.index = one.index & 0xFFFFFFFF
        kept.append(chains)
        return chains

    # ---- the rest of the contract ----------------------------------------------------------------

    @in_turn
    def keep_times(self, on: bool) -> None:
        """Hold a clock to every instruction from the next step on, or put it away."""
        if self._handle is None and not on:
            return
        self._open()
        clock = np.full((len(self._lowering.added), 2), -1, np.int64) if on else None
        room = self._ffi.NULL if clock is None else self._ffi.from_buffer("int64_t[]", clock)
        count = 0 if clock is None else len(clock)
        self._check(self._lib.llama_program_clock(self._handle, room, count))
        self._clock = clock  # only now, since the library wrote into the one before

    def times(self) -> Sequence[Timing]:
        """Linears that read the same rows run as one, and are told as one."""
        numbers = self._read_clock()
        found: list[Timing] = []
        ran = False  # what the instructions that run together belong to
        for node, (began_ns, ns) in zip(self._lowering.added, numbers, strict=bool(numbers)):
            if began_ns != TOGETHER:
                ran = began_ns >= 0
                if ran:
                    found.append(Timing(node.name, node.op, began_ns, ns))
            elif ran:
                found[-1] = replace(found[-1], name=f"{found[-1].name} + {node.name}")
        return found

    @in_turn
    def _read_clock(self) -> list[list[int]]:
        numbers: list[list[int]] = [] if self._clock is None else self._clock.tolist()
        if self._clock is not None:
            self._clock[:] = -1
        return numbers

    @in_turn
    def copy_blocks(self, pairs: Sequence[tuple[int, int, int]]) -> None:
        self._open()
        programs.check_copies(pairs, self.kv)
        flat = np.ascontiguousarray(list(pairs), np.int32).reshape(-1)
        self._check(
            self._lib.llama_program_copy(
                self._handle, self._ffi.from_buffer("int32_t[]", flat), len(flat) // 3
            )
        )

    def load_adapter(self, slot: int, adapter: Mapping[str, programs.Pair]) -> None:
        """By linear: a [rank, in] and b [out, rank], scale included; the others add nothing."""
        self._rewrite(slot, programs.adapted(self.graph, self.plan, slot, adapter))

    @in_turn
    def _rewrite(self, slot: int, found: Sequence[tuple[Node, programs.Pair | None]]) -> None:
        self._open()
        for node, pair in found:
            for side, role in enumerate(("a", "b")):
                whole = np.zeros(self.graph.shapes[node.weights[role]][1:], np.float32)
                if pair is not None:
                    part = pair[side]
                    whole[: part.shape[0], : part.shape[1]] = part
                number = self._lowering.adapters[node.name][side][slot]
                data = self._ffi.from_buffer("float[]", whole)
                self._check(self._lib.llama_program_rewrite(self._handle, number, data))

    def close(self) -> None:
        if self.turns.inherited:
            self._free()  # its memory is the child's own, and nobody steps it here
        else:
            in_turn(CpuProgram._free)(self)

    def _free(self) -> None:
        handle, self._handle = self._handle, None
        if handle is not None:
            self._lib.llama_program_free(handle)

    def __del__(self) -> None:
        if getattr(self, "_handle", None) is not None:
            self._free()

    def num_bytes(self) -> dict[str, int]:
        """Memory by what it is for: packed weights, past tokens, the step's own buffers."""
        self._open()
        names = ("weights", "kv", "buffers")
        return {n: self._lib.llama_program_bytes(self._handle, i) for i, n in enumerate(names)}

    def _open(self) -> None:
        programs.check_open(self._handle is None)

    def _check(self, status: int) -> None:
        if status:
            text = self._ffi.string(self._lib.llama_program_message(self._handle)).decode()
            native.check(status, text)


def block_ids(table: Sequence[int]) -> NDArray[np.int32]:
    """An OverflowError where one has more than 32 bits, which an array's cast would cut off."""
    if isinstance(table, np.ndarray) and table.dtype is not INT32:
        table = table.tolist()
    return np.asarray(table, np.int32)


def layout(graph: Graph, plan: Plan) -> KVLayout:
    """How the plan's bytes are divided into blocks."""
    programs.check_kv_type(plan.kv_dtype)
    scale = 4 if plan.kv_dtype == "q8" else 0
    width = KV_BYTES[plan.kv_dtype]
    groups = [
        KVGroup(
            heads.layers,
            heads.window,
            len(heads.layers) * 2 * heads.num_heads * (heads.head_dim * width + scale),
        )
        for heads in graph.kv_groups
    ]
    found = programs.divided(groups, plan, graph.context_length)
    return replace(found, num_blocks=min(found.num_blocks, 2**31 - 1))
