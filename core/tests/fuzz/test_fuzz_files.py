"""Fuzzing the parsers of model files: safetensors, GGUF, and the JSON beside them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.errors import LlamaError
from llama_core.model.files.gguf_header import TYPES
from llama_core.model.files.safetensors import KINDS

from .bounds import Bounded, run
from .mutate import NUMBERS, Change, changes, mutated

SMALL = st.integers(0, 9) | st.sampled_from(NUMBERS)
PARTS = ["weight", "qweight", "scales", "qzeros", "g_idx", "SCB", "weight_packed", "weight_scale",
         "weight_shape"]  # fmt: skip
NAMES = st.sampled_from(["a", "b", "é", *(f"l.{part}" for part in PARTS)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def decoded(files: Any) -> None:
    """Whatever was accepted can be read, too."""
    for name in files.weights:
        one = files.weights[name]
        if one.size < 1 << 20:
            with np.errstate(all="ignore"):
                assert one.decode().shape == one.shape


def header_of(tensors: list[tuple[str, str, list[int]]], data: int) -> tuple[dict[str, Any], int]:
    """A header that is right, as far as sizes allow."""
    header: dict[str, Any] = {}
    at = 0
    for name, kind, shape in tensors:
        size = int(np.prod([float(n) for n in shape])) * {"F32": 4, "I32": 4, "F16": 2}.get(kind, 1)
        end = min(at + size, data)
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, end]}
        at = end
    return header, at


short = st.text(max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | SMALL | short | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3),
    max_leaves=8,
)
METHODS = ["gptq", "awq", "bitsandbytes", "compressed-tensors", "fp8"]
quantization = st.fixed_dictionaries(
    {
        "quant_method": st.sampled_from(METHODS),
        "bits": st.sampled_from([2, 3, 4, 8]) | json_values,
        "group_size": st.sampled_from([-1, 8, 32]) | json_values,
    },
    optional=dict.fromkeys(("config_groups", "weight_block_size", "version"), json_values),
)
tensors = st.lists(
    st.tuples(
        NAMES,
        st.sampled_from([*KINDS, "F32", "I32", "U8", "I8"]),
        st.lists(st.integers(0, 9), max_size=3) | st.lists(SMALL, max_size=3),
    ),
    max_size=5,
)
safetensors_bounds, gguf_bounds, config_bounds = Bounded(), Bounded(), Bounded()


@run
@given(
    made=tensors,
    extra=st.integers(0, 16),
    odd=st.none()
    | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), json_values),
    change=changes,
    quantized=st.none() | quantization,
)
def test_safetensors(
    folder: Path,
    made: list[tuple[str, str, list[int]]],
    extra: int,
    odd: dict[str, Any] | None,
    change: list[Change],
    quantized: dict[str, Any] | None,
) -> None:
    header, size = header_of(made, 4096)
    if odd and header:
        next(iter(header.values())).update(odd)
    text = json.dumps(header).encode()
    data = mutated(struct.pack("<Q", len(text)) + text + bytes(size + extra % 3), change)
    (folder / "model.safetensors").write_bytes(data)
    config = {"model_type": "llama", "quantization_config": quantized}
    (folder / "config.json").write_text(json.dumps(config))

    def parse() -> None:
        decoded(SafetensorsFormat().open(folder))

    safetensors_bounds(parse, len(data))


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


@st.composite
def gguf_values(draw: st.DrawFn, depth: int = 2) -> bytes:
    """A type and a value of it."""
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


ARCHITECTURES = ["llama", "gemma2", "qwen3moe", "phi3", "lama"]
KEYS = [
    "general.alignment",
    "llama.context_length",
    "llama.rope.scaling.type",
    "llama.expert_count",
    "llama.rope.scale_linear",
    "split.count",
    "tokenizer.ggml.model",
    "tokenizer.ggml.tokens",
    "tokenizer.chat_template",
    "x",
]
STEMS = [
    "token_embd.weight",
    "output.weight",
    "rope_freqs.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_k.bias",
    "blk.0.ffn_gate_exps.weight",
    "blk.1.attn_norm.weight",
    "odd",
]


@st.composite
def gguf_files(draw: st.DrawFn) -> bytes:
    architecture = draw(st.sampled_from(ARCHITECTURES))
    keys = [("general.architecture", struct.pack("<I", 8) + text(architecture))]
    sizes = {"embedding_length": 8, "block_count": 1, "feed_forward_length": 8}
    for name, size in sizes.items():
        keys.append((f"{architecture}.{name}", struct.pack("<II", 4, size)))
    heads = draw(st.sampled_from([1, 2, 4]) | SMALL) & 0xFFFFFFFF
    keys.append((f"{architecture}.attention.head_count", struct.pack("<II", 4, heads)))
    for name in draw(st.lists(st.sampled_from(KEYS), max_size=3)):
        keys.append((name, draw(gguf_values())))
    infos, at = b"", 0
    made = draw(st.lists(st.sampled_from(STEMS), max_size=4))
    for name in made:
        kind = draw(st.sampled_from(list(TYPES)) | st.integers(0, 40))
        shape = draw(st.lists(st.sampled_from([1, 2, 4, 8, 32, 256]) | SMALL, max_size=4))
        infos += text(name) + struct.pack("<I", len(shape))
        infos += struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, at)
        size = int(np.prod([float(n) for n in shape]))
        at += -(-(size * 4 if size < 2048 else 64) // 32) * 32
    counts = struct.pack("<IQQ", draw(st.sampled_from([2, 3, 3, 3, 4])), len(made), len(keys))
    out = b"GGUF" + counts + b"".join(text(name) + value for name, value in keys) + infos
    return out + bytes(-len(out) % 32) + bytes(at)


@run
@given(data=gguf_files(), change=changes)
def test_gguf(folder: Path, data: bytes, change: list[Change]) -> None:
    data = mutated(data, change)
    (folder / "m.gguf").write_bytes(data)

    def parse() -> None:
        decoded(GgufFormat().open(folder / "m.gguf"))

    gguf_bounds(parse, len(data))


def config_files() -> st.SearchStrategy[dict[str, Any]]:
    named = ["model_type", "hidden_size", "num_attention_heads", "quantization_config", "auto_map",
             "rope_scaling", "chat_template", "eos_token_id", "weight_map"]  # fmt: skip
    return st.dictionaries(st.sampled_from(named), json_values, max_size=6)


@run
@given(
    name=st.sampled_from(["config.json", "generation_config.json", "tokenizer_config.json",
                          "chat_template.json", "model.safetensors.index.json"]),
    content=config_files(),
    raw=st.none() | st.binary(max_size=40) | st.text("[]{}\":,0e+-.", max_size=60).map(str.encode),
    change=changes,
)  # fmt: skip
def test_configs(
    tmp_path_factory: pytest.TempPathFactory,
    folder: Path,
    name: str,
    content: dict[str, Any],
    raw: bytes | None,
    change: list[Change],
) -> None:
    place = folder / "configs"
    place.mkdir(exist_ok=True)
    for old in place.iterdir():
        old.unlink()
    (place / "config.json").write_text('{"model_type": "llama"}')
    (place / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    data = mutated(json.dumps(content).encode() if raw is None else raw, change)
    (place / name).write_bytes(data)

    def parse() -> None:
        files = SafetensorsFormat().open(place)
        from llama_core.model.architectures import create, model_type

        create(model_type(files.config)).build(files.config)

    config_bounds(parse, len(data))


def test_both_sides_were_reached() -> None:
    """A fuzzer whose inputs are all refused at the door tests the door."""
    for one in (safetensors_bounds, gguf_bounds):
        if one.accepted + one.refused >= 2000:  # the whole module ran
            assert one.accepted > 50, (one.accepted, one.refused)
            assert one.refused > 100, (one.accepted, one.refused)
    assert issubclass(LlamaError, Exception)
