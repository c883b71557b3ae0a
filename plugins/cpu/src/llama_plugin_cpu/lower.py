"""From graph to native instructions: values get numbers, weights are packed, ops are added.

Each op of the graph has one function here that says which fields of `llama_op` it fills. Knows the
graph's vocabulary and the builder's calls; knows nothing of batches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from llama_core.model.graph import Graph, Node
from llama_core.model.weights import Weights
from llama_plugin_cpu import native, pack, packed
from llama_plugin_cpu.cache import Shelf

MAX_HEAD = 1024  # of the kernels
FNS = {"silu": "LLAMA_SILU", "gelu": "LLAMA_GELU", "gelu_tanh": "LLAMA_GELU_TANH",
       "relu": "LLAMA_RELU", "sigmoid": "LLAMA_SIGMOID", "tanh": "LLAMA_TANH"}  # fmt: skip
INPUTS = {"embed": ("tokens",), "rope": (None, "positions"), "gather": (None, "rows")}

Fields = dict[str, Any]


def unsupported(node: Node) -> str | None:
    """Why a node cannot be run, or None."""
    if node.op not in OPS:
        return f"the CPU backend has no '{node.op}'"
    for given, wanted in zip(node.inputs, INPUTS.get(node.op, ()), strict=False):
        if wanted is not None and given != wanted:
            return f"{node.op} reads {given!r} where only the graph's input {wanted!r} can stand"
    if node.attrs.get("fn", "silu") not in FNS:
        return f"there is no activation {node.attrs['fn']!r}"
    if node.attrs.get("head_dim", 1) > MAX_HEAD:
        return f"heads of {node.attrs['head_dim']} are wider than {MAX_HEAD}"
    return None


class Lowering:
    """One graph on its way into one native program."""

    def __init__(
        self, handle: Any, graph: Graph, weights: Weights, shelf: Shelf | None = None
    ) -> None:
        self.ffi, self.lib = native.library()
        self.handle = handle
        self.graph = graph
        self.weights = weights
        self.shelf = shelf or Shelf()
        self._in_parts = shelf is not None  # a program file takes a matrix whole
        self.widened: dict[str, list[str]] = {}  # encoding: weights that were decoded to floats
        self.ropes: list[tuple[Any, ...]] = []  # theta, rotary_dim, scaling of each table
        self.adapters: dict[str, tuple[list[int], list[int]]] = {}  # node: weight ids of a and b
        self.added: list[Node] = []  # the node of each instruction
        self._values: dict[str, int] = {}
        self._mapped: list[Any] = []  # what packed matrices of the cache lie in
        self._packed: dict[tuple[str, bool], tuple[int, Any]] = {}
        self._place = {
            layer: (g, i)
            for g, heads in enumerate(graph.kv_groups)
            for i, layer in enumerate(heads.layers)
        }

    def run(self, extend_rope: Callable[[int], None]) -> None:
        """Add everything; `extend_rope(table)` fills a new table of angles."""
        for heads in self.graph.kv_groups:
            self._check(
                self.lib.llama_program_group(
                    self.handle, len(heads.layers), heads.num_heads, heads.head_dim
                )
            )
        shapes = self.graph.value_shapes()
        for node in self.graph.nodes:
            if node.op == "gather" and node.inputs[0] == "adapters":
                continue  # the library looks up the slot of a gathered row itself
            key = (node.attrs.get("theta"), node.attrs.get("rotary_dim"), node.attrs.get("scaling"))
            if node.op == "rope" and key not in self.ropes:
                self.ropes.append(key)
                extend_rope(len(self.ropes) - 1)
            self._add(node, shapes[node.name])
        outputs = self.graph.outputs
        ids = [self._values[outputs[n]] if n in outputs else -1 for n in ("logits", "hidden")]
        self._check(self.lib.llama_program_finish(self.handle, *ids))

    def _add(self, node: Node, shape: tuple[Any, ...]) -> None:
        out = self.ffi.new("int32_t *")
        self._check(
            self.lib.llama_program_value(self.handle, shape[1], int(shape[0] == "R"), out), node
        )
        self._values[node.name] = out[0]
        op = self.ffi.new("llama_op *")
        op.kind = getattr(self.lib, f"LLAMA_{node.op.upper()}")
        op.output = out[0]
        inputs = [self._values[v] for v in node.inputs if v in self._values]
        op.inputs = [*inputs, -1, -1, -1][:3]
        kept = []
        for name, value in OPS[node.op](self, node).items():
            if isinstance(value, np.ndarray):
                kind = "float[]" if value.dtype == np.float32 else "int32_t[]"
                value = self.ffi.from_buffer(kind, value)
                kept.append(value)
            elif isinstance(value, list):
                op.num_weights = len(value)
                value = self.ffi.new("int32_t[]", value)
                kept.append(value)
            setattr(op, name, value)
        self._check(self.lib.llama_program_add(self.handle, op), node)
        self.added.append(node)

    def _check(self, status: int, node: Node | None = None) -> None:
        if status:
            text = self.ffi.string(self.lib.llama_program_message(self.handle)).decode()
            text = text or self.ffi.string(self.lib.llama_status_text(status)).decode()
            native.check(status, f"{node.name}: {text}" if node else text)

    # ---- weights ---------------------------------------------------------------------------------

    def vector(self, name: str) -> Any:
        if self.shelf.pack is not None and self.shelf.found(name):
            return self.shelf.pack.array(name, "data", "<f4")
        found = np.ascontiguousarray(self.weights.array(name).reshape(-1), np.float32)
        if np.isnan(found).any():
            raise native.CpuError(f"the weight {name} holds a number that is not a number (NaN)")
        self.shelf.keep(name, name, {}, {"data": found.view(np.uint8).data})
        return found

    def matrix(self, name: str, *, ordered: bool = True) -> tuple[int, Any]:
        """Number and column order of a matrix; packed once, however many nodes name it."""
        done = self._packed.get((name, ordered)) or self._packed.get((name, not ordered))
        if done is not None and (done[1] is None or ordered):
            return done
        label = name if ordered else f"{name} in order"
        known = self.shelf.found(label)
        number, order, widened = self._adopt(label, known) if known else self._pack(name, label)
        if widened is not None:
            self.widened.setdefault(widened, []).append(name)
        self._packed[name, ordered] = number, order
        return number, order

    def _pack(self, name: str, label: str) -> tuple[int, Any, str | None]:
        """From the encoding, a part of the rows after the other."""
        whole = self.weights[name]
        if not self._in_parts:
            all_of_it = pack.source(whole, ordered=label == name)
            return self.hand_over(all_of_it, name), all_of_it.order, all_of_it.widened
        out = self.ffi.new("int32_t *")
        one = None
        for row, part in pack.parts(whole):
            one = pack.source(part, ordered=label == name)
            given = pack.struct(self.ffi, self.lib, one)
            self._take(
                self.lib.llama_program_weight_part(self.handle, given, row, whole.shape[0], out),
                name,
            )
            pack.release(part)
        assert one is not None
        about, parts = packed.show(self.handle, out[0])
        if one.order is not None:
            parts["order"] = one.order.view(np.uint8).data
        self.shelf.keep(label, name, {**about, "widened": one.widened}, parts)
        return int(out[0]), one.order, one.widened

    def _adopt(self, label: str, known: Mapping[str, Any]) -> tuple[int, Any, str | None]:
        """From the cache, where it lies as the library wants it."""
        assert self.shelf.pack is not None
        out = self.ffi.new("int32_t *")
        given, kept = packed.struct(self.shelf.pack, label)
        self._take(self.lib.llama_program_adopt(self.handle, given, out), label)
        self._mapped += kept
        return int(out[0]), self.shelf.pack.array(label, "order", "<i4"), known["widened"]

    def hand_over(self, one: pack.Source, name: str) -> int:
        out = self.ffi.new("int32_t *")
        given = pack.struct(self.ffi, self.lib, one)
        self._take(self.lib.llama_program_weight(self.handle, given, out), name)
        return int(out[0])

    def _take(self, status: int, name: str) -> None:
        if status:
            text = self.ffi.string(self.lib.llama_program_message(self.handle)).decode()
            native.check(status, f"the weight {name}: {text}" if text else "")

    # ---- ops -------------------------------------------------------------------------------------

    def embed(self, node: Node) -> Fields:
        return {"weights": [self.matrix(node.weights["weight"], ordered=False)[0]]}

    def norm(self, node: Node) -> Fields:
        weight = self.vector(node.weights["weight"])
        fields = {"vector": weight, "vector_size": len(weight), "eps": node.attrs["eps"],
                  "offset": node.attrs.get("offset", 0.0)}  # fmt: skip
        if "bias" in node.weights:
            fields["bias"] = self.vector(node.weights["bias"])
        return fields

    def act(self, node: Node) -> Fields:
        act = node.attrs["act"]
        if act == "none":
            return {"act": self.lib.LLAMA_ACT_NONE}
        if act == "static":
            scale = self.vector(node.weights["input_scale"])[0]
            return {"act": self.lib.LLAMA_ACT_STATIC, "act_scale": float(scale)}
        bits, block = act.split(":")
        kinds = {"q8": self.lib.LLAMA_ACT_Q8, "q7": self.lib.LLAMA_ACT_Q7}
        return {"act": kinds[bits], "act_block": int(block)}

    def linear(self, node: Node) -> Fields:
        number, order = self.matrix(node.weights["weight"])
        fields = {"weights": [number], **self.act(node)}
        if order is not None:
            fields["order"] = order
        if "bias" in node.weights:
            fields["vector"] = self.vector(node.weights["bias"])
        return fields

    def rope(self, node: Node) -> Fields:
        a = node.attrs
        table = self.ropes.index((a["theta"], a["rotary_dim"], a["scaling"]))
        return {"head_dim": a["head_dim"], "rotary_dim": a["rotary_dim"], "rope": table}

    def attention(self, node: Node) -> Fields:
        a = node.attrs
        group, slot = self._place[a["layer"]]
        return {"group": group, "slot": slot, "heads": a["num_heads"],
                "kv_heads": a["num_kv_heads"], "head_dim": a["head_dim"], "scale": a["scale"],
                "window": a["window"] or 0, "softcap": a["softcap"] or 0.0}  # fmt: skip

    def fn(self, node: Node) -> Fields:
        return {"fn": getattr(self.lib, FNS[node.attrs["fn"]])}

    def factor(self, node: Node) -> Fields:
        return {"by": node.attrs["cap" if node.op == "softcap" else "by"]}

    def slice(self, node: Node) -> Fields:
        return {"start": node.attrs["start"]}

    def moe(self, node: Node) -> Fields:
        roles = [
            f"{r}.{e}" for e in range(node.attrs["num_experts"]) for r in ("gate", "up", "down")
        ]
        numbers = [self.matrix(node.weights[role], ordered=False)[0] for role in roles]
        return {"weights": numbers, "top_k": node.attrs["top_k"], **self.fn(node), **self.act(node),
                "normalize": int(node.attrs["normalize"])}  # fmt: skip

    def lora(self, node: Node) -> Fields:
        a_SRK, b_SNR = (self.weights.array(node.weights[role]) for role in ("a", "b"))
        a = [self.hand_over(pack.dense(x), node.weights["a"]) for x in a_SRK]
        b = [self.hand_over(pack.dense(x), node.weights["b"]) for x in b_SNR]
        self.adapters[node.name] = (a, b)
        return {"weights": [n for pair in zip(a, b, strict=True) for n in pair]}


def nothing(lowering: Lowering, node: Node) -> Fields:
    return {}


OPS: Mapping[str, Callable[[Lowering, Node], Fields]] = {
    "embed": Lowering.embed, "rms_norm": Lowering.norm, "layer_norm": Lowering.norm,
    "linear": Lowering.linear, "rope": Lowering.rope, "attention": Lowering.attention,
    "activation": Lowering.fn, "glu": Lowering.fn, "add": nothing, "mul": Lowering.factor,
    "softcap": Lowering.factor, "slice": Lowering.slice, "gather": nothing,
    "moe": Lowering.moe, "lora": Lowering.lora,
}  # fmt: skip
