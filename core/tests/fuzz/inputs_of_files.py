"""Inputs for the parsers of model files, built by strategies that know the formats.

Every input begins as a file that is right. A part of them stays so; the others get values that
cannot be where they stand, or a few changed bytes, which is where lengths meet data.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from hypothesis import strategies as st

from llama_core.model.encodings import Gguf, Plain
from llama_core.model.files.gguf_header import TYPES
from llama_core.model.files.safetensors import KINDS

from .mutate import NUMBERS, changes, mutated
from .parsers import CONFIG, CONFIGS

SMALL = st.integers(0, 9) | st.sampled_from(NUMBERS)
some_changes = st.just([]) | changes
short = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | SMALL | short | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=8,
)

# Safetensors -------------------------------------------------------------------------------------

PARTS = ["weight", "qweight", "scales", "qzeros", "g_idx", "SCB", "weight_packed", "weight_scale",
         "weight_shape"]  # fmt: skip
NAMES = st.sampled_from(["a", "b", "é", *(f"l.{part}" for part in PARTS)])
METHODS = ["gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8"]
quantization = st.fixed_dictionaries(
    {
        "quant_method": st.sampled_from(METHODS),
        "bits": st.sampled_from([2, 3, 4, 8]) | json_values,
        "group_size": st.sampled_from([-1, 8, 32]) | json_values,
    },
    optional=dict.fromkeys(("config_groups", "weight_block_size", "version"), json_values),
)


@st.composite
def safetensors_files(draw: st.DrawFn) -> bytes:
    wild = draw(st.booleans())
    sizes = st.integers(0, 9) | SMALL if wild else st.integers(0, 9)
    tensors = st.tuples(
        NAMES,
        st.sampled_from([*KINDS, "F32", "I32", "U8", "I8"]),
        st.lists(sizes, max_size=3),
    )
    header: dict[str, Any] = {}
    at = 0
    for name, kind, shape in draw(st.lists(tensors, max_size=5, unique_by=lambda one: one[0])):
        width = Plain(KINDS[kind]).dtype.itemsize
        end = min(at + int(np.prod([float(n) for n in shape])) * width, 1 << 16)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    if wild and header:
        odd = st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), json_values)
        next(iter(header.values())).update(draw(odd))
    text = json.dumps(header).encode()
    more = draw(st.integers(0, 2)) if wild else 0
    file = struct.pack("<Q", len(text)) + text + bytes(at + more)
    config = {"model_type": "llama", "quantization_config": draw(st.none() | quantization)}
    return json.dumps(config).encode() + b"\0" + mutated(file, draw(some_changes))


# GGUF --------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def u32(number: int) -> bytes:
    return struct.pack("<II", 4, number & 0xFFFFFFFF)


@st.composite
def gguf_values(draw: st.DrawFn, depth: int = 2) -> bytes:
    """A type and a value of it, which may not be."""
    kind = draw(st.integers(0, 13))
    if kind == 8:
        return struct.pack("<I", 8) + text(draw(st.text(max_size=8)))
    if kind == 9 and depth:
        inner = [draw(gguf_values(depth=depth - 1)) for _ in range(draw(st.integers(0, 3)))]
        count = draw(st.just(len(inner)) | SMALL) & ((1 << 64) - 1)
        first = struct.unpack("<I", inner[0][:4])[0] if inner else draw(st.integers(0, 13))
        body = b"".join(one[4:] for one in inner)
        return struct.pack("<IIQ", 9, first, count) + body
    return struct.pack("<IQ", kind, draw(SMALL) & ((1 << 64) - 1))[
        : draw(st.sampled_from([5, 6, 8, 12]))
    ]


ARCHITECTURES = ["llama", "gemma2", "qwen3moe", "phi3"]
KEYS = {
    "general.alignment": u32(64),
    "split.count": u32(1),
    "tokenizer.chat_template": struct.pack("<I", 8) + text("{{ messages }}"),
    "x": struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 4, 2) + bytes(8),
    "{}.context_length": u32(128),
    "{}.expert_count": u32(2),
    "{}.rope.scale_linear": struct.pack("<If", 6, 2.0),
    "{}.rope.scaling.type": struct.pack("<I", 8) + text("yarn"),
    "{}.attention.head_count_kv": struct.pack("<IIQII", 9, 4, 2, 1, 1),
}
# Stems, and the rows and columns that fit the sizes below.
STEMS: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (5, 256),
    "output.weight": (5, 256),
    "rope_freqs.weight": (128,),
    "blk.0.attn_q.weight": (8, 256),
    "blk.0.attn_k.weight": (8, 256),
    "blk.0.attn_k.bias": (8,),
    "blk.0.ffn_gate_exps.weight": (2, 4, 256),
    "blk.1.attn_norm.weight": (256,),
    "odd": (),
}
VOCABULARY = {
    "tokenizer.ggml.model": struct.pack("<I", 8) + text("llama"),
    "tokenizer.ggml.tokens": struct.pack("<IIQ", 9, 8, 3) + text("<unk>") + text("a") + text("▁"),
    "tokenizer.ggml.scores": struct.pack("<IIQfff", 9, 6, 3, 0, -1, -2),
    "tokenizer.ggml.token_type": struct.pack("<IIQiii", 9, 5, 3, 2, 1, 1),
}


@st.composite
def gguf_files(draw: st.DrawFn) -> bytes:
    wild = draw(st.booleans())
    architecture = draw(st.sampled_from([*ARCHITECTURES, "lama"] if wild else ARCHITECTURES))
    keys = {"general.architecture": struct.pack("<I", 8) + text(architecture)}
    sizes = {"embedding_length": 256, "block_count": 1, "feed_forward_length": 8}
    keys |= {f"{architecture}.{name}": u32(size) for name, size in sizes.items()}
    heads = draw(st.sampled_from([1, 2, 4]) | SMALL) if wild else 1
    keys[f"{architecture}.attention.head_count"] = u32(heads)
    if draw(st.booleans()):
        keys |= VOCABULARY
    for name in draw(st.lists(st.sampled_from([*KEYS]), max_size=3)):
        value = draw(gguf_values()) if wild and draw(st.booleans()) else KEYS[name]
        keys[name.format(architecture)] = value
    if wild and draw(st.booleans()):
        keys[draw(st.sampled_from([*keys]))] = draw(gguf_values())
    alignment = 64 if keys.get("general.alignment") == u32(64) else 32
    infos, at = b"", 0
    made = draw(st.lists(st.sampled_from([*STEMS]), max_size=4, unique=not wild))
    for name in made:
        kind = draw(st.sampled_from([*TYPES])) if len(STEMS[name]) > 1 else 0
        shape = list(reversed(STEMS[name]))
        if wild and draw(st.booleans()):
            kind = draw(st.integers(0, 40))
            shape = draw(st.lists(st.sampled_from([1, 2, 4, 8, 32, 256]) | SMALL, max_size=6))
        infos += text(name) + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, at)
        at += -(-_bytes_of(kind, shape) // alignment) * alignment
    version = draw(st.sampled_from([2, 3, 3, 4])) if wild else 3
    counts = struct.pack("<IQQ", version, len(made), len(keys))
    out = b"GGUF" + counts + b"".join(text(name) + value for name, value in keys.items()) + infos
    return mutated(out + bytes(-len(out) % alignment) + bytes(at), draw(some_changes))


def _bytes_of(kind: int, shape: list[int]) -> int:
    """What a tensor takes; of those that cannot be, a little."""
    numbers = float(np.prod([float(n) for n in shape]))
    encoding = TYPES.get(kind)
    if encoding is None or numbers > 1 << 14:
        return 64
    if isinstance(encoding, Gguf):
        return int(numbers) // 256 * encoding.row_bytes(256)
    assert isinstance(encoding, Plain)
    return int(numbers) * encoding.dtype.itemsize


# Configs -----------------------------------------------------------------------------------------

RIGHT: dict[str, dict[str, Any]] = {
    "config.json": CONFIG,
    "generation_config.json": {"eos_token_id": [1, 2]},
    "tokenizer_config.json": {"chat_template": [{"name": "default", "template": "x"}]},
    "chat_template.json": {"chat_template": "x"},
    "model.safetensors.index.json": {"weight_map": {"w": "model.safetensors"}},
}
WORDS = ["model_type", "hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size",
         "quantization_config", "auto_map", "rope_scaling", "rope_parameters", "layer_types",
         "chat_template", "eos_token_id", "weight_map", "text_config"]  # fmt: skip
HUGE = [10**9, 10**400, -1, 1e308, [[]], {"a": {"b": []}}, "../../etc/passwd", "a\0b"]


@st.composite
def config_files(draw: st.DrawFn) -> bytes:
    name = draw(st.sampled_from(CONFIGS))
    content = RIGHT[name] if draw(st.integers(0, 3)) else {}
    odd = st.dictionaries(st.sampled_from(WORDS), json_values | st.sampled_from(HUGE), max_size=4)
    data = json.dumps(content | draw(st.just({}) | odd)).encode()
    if draw(st.integers(0, 5)) == 0:
        raw = st.binary(max_size=40) | st.text('[]{}":,0e+-.', max_size=60).map(str.encode)
        data = draw(raw)
    return name.encode() + b"\0" + mutated(data, draw(some_changes))
