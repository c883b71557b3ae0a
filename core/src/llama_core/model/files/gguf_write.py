"""Writing GGUF: any model of a known family, tensors one at a time, by the `gguf` package's writer.

Tensors keep an encoding that GGUF has; ours of the same arithmetic become its blocks exactly; all
others are decoded to f16, and that is announced. Vectors are f32, as llama.cpp wants them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llama_core.announce import Announcements
from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError
from llama_core.model.architectures.config import TextConfig, read
from llama_core.model.encodings import F16, F32, Encoding, Gguf, Grouped, Plain
from llama_core.model.encodings.base import Array, FloatArray, Shape
from llama_core.model.files.gguf_check import lost
from llama_core.model.files.gguf_config import keys_of, llama3_factors, yarn_stretch
from llama_core.model.files.gguf_header import TYPES, raw
from llama_core.model.files.gguf_names import Family, by_model_type, to_file
from llama_core.model.files.gguf_weights import (
    GgufModel,
    interleaved_heads,
    is_norm,
    one_added,
    permuted,
    take_rows,
)
from llama_core.model.files.save_folder import new_place
from llama_core.model.weights import Tensor, Weights, tensor

if TYPE_CHECKING:
    from gguf import GGUFWriter

_NUMBERS = {encoding: number for number, encoding in TYPES.items()}
# Our layouts with the arithmetic of one of GGUF's block types.
_SAME = {
    Grouped(4, 32): Gguf("q4_0"),
    Grouped(4, 32, "min"): Gguf("q4_1"),
    Grouped(5, 32): Gguf("q5_0"),
    Grouped(5, 32, "min"): Gguf("q5_1"),
    Grouped(8, 32): Gguf("q8_0"),
}
_INTEGERS = (
    "context_length", "embedding_length", "block_count", "feed_forward_length", "head_count",
    "head_count_kv", "key_length", "sliding_window", "vocab_size", "expert_count",
    "expert_used_count", "expert_feed_forward_length",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Planned:
    """One tensor of the file: what it will be, and how to make it when its turn comes."""

    shape: Shape
    encoding: Encoding
    make: Callable[[], Tensor]
    given: tuple[Encoding, ...] = ()  # what it is now; a stack's members may differ


def save_gguf(files: ModelFiles, path: Path, announcements: Announcements | None = None) -> None:
    """Write a new file, whole or not at all; refused where it would be another model's."""
    from gguf import GGUFWriter

    model_type = files.config.get("model_type")
    if not isinstance(model_type, str):
        raise LlamaError("the config has no model_type, so GGUF has no architecture for it")
    family = by_model_type(model_type)
    planned = _plan(files.weights, files.config, family)
    _announce(planned, announcements or Announcements())
    with new_place(path) as part:
        writer = GGUFWriter(part, family.architecture)
        try:
            _add_metadata(writer, files, family)
            for name, one in planned.items():
                _add_info(writer, name, one)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for one in planned.values():
                writer.write_tensor_data(np.ascontiguousarray(raw(one.make())))
            writer.flush()
        finally:
            writer.close()
        if missing := lost(files.config, GgufModel(part).config):
            raise LlamaError(
                f"GGUF cannot say all of this {model_type} model: {'; '.join(missing)}",
                remedy="Keep it as a safetensors folder.",
            )


def _announce(planned: Mapping[str, _Planned], announcements: Announcements) -> None:
    """Say what is decoded because GGUF has no such encoding."""
    counts = Counter(
        encoding.name
        for one in planned.values()
        if one.encoding == F16
        for encoding in one.given
        if encoding != F16
    )
    if counts:
        told = ", ".join(f"{count} tensors in '{name}'" for name, count in sorted(counts.items()))
        announcements.fallback(
            f"GGUF has no place for {told}: they are written in f16",
            remedy="Give them an encoding of GGUF's first, such as gguf:q4_k or gguf:q8_0.",
        )


def _add_info(writer: GGUFWriter, name: str, one: _Planned) -> None:
    from gguf import GGMLQuantizationType

    kind = GGMLQuantizationType(_NUMBERS[one.encoding])
    shape, dtype = one.shape, np.dtype(np.uint8)
    if isinstance(one.encoding, Gguf):
        shape = (*shape[:-1], one.encoding.row_bytes(shape[-1]))
    else:
        assert isinstance(one.encoding, Plain)
        dtype = one.encoding.dtype
    num_bytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    writer.add_tensor_info(name, shape, dtype, num_bytes, raw_dtype=kind)


def _plan(weights: Weights, config: Mapping[str, Any], family: Family) -> dict[str, _Planned]:
    planned: dict[str, _Planned] = {}
    stacks: dict[str, dict[int, str]] = {}
    for name in weights:
        stored, expert = to_file(name, family)
        if expert is not None:
            stacks.setdefault(stored, {})[expert] = name
            continue
        shape, encoding = weights.about(name)
        planned[stored] = _single(
            weights, name, shape, _target(name, shape, encoding), config, family
        )
    for stored, members in stacks.items():
        if sorted(members) != list(range(len(members))):
            raise LlamaError(f"'{stored}' lacks some experts; it has {sorted(members)}")
        planned[stored] = _stack(weights, [members[i] for i in range(len(members))])
    for name, factors in _factors(config).items():
        planned[name] = _Planned(factors.shape, F32, lambda factors=factors: tensor(factors))  # type: ignore[misc]
    return planned


def _target(name: str, shape: Shape, encoding: Encoding) -> Encoding:
    """What a tensor is written as."""
    if len(shape) < 2 or ".gate.weight" in name:
        return F32
    if encoding in _NUMBERS:
        return encoding
    same = _SAME.get(encoding)  # type: ignore[call-overload]
    return same if same is not None and shape[-1] % 32 == 0 else F16


def _single(
    weights: Weights,
    name: str,
    shape: Shape,
    target: Encoding,
    config: Mapping[str, Any],
    family: Family,
) -> _Planned:
    heads = interleaved_heads(name, family, config)

    def make() -> Tensor:
        found = weights[name]
        if family.norms_plus_one and is_norm(name):
            return tensor(one_added(found.decode()))
        found = _as(found, target)
        return take_rows(found, permuted(shape[0], heads)) if heads else found

    return _Planned(shape, target, make, (weights.about(name).encoding,))


def _as(one: Tensor, target: Encoding) -> Tensor:
    if isinstance(one.encoding, Grouped) and isinstance(target, Gguf):
        view = one.encoding.unpack(one.parts, one.shape)
        return Tensor(one.shape, target, target.pack(view, one.shape))
    return one.encoded(target)


def _stack(weights: Weights, names: list[str]) -> _Planned:
    about = {weights.about(name) for name in names}
    shape, encoding = next(iter(about))
    if len({shape for shape, _ in about}) > 1:
        raise LlamaError(f"experts like '{names[0]}' differ in shape, so they cannot be stacked")
    target = _target("", shape, encoding) if len(about) == 1 else F16

    def make() -> Tensor:
        parts = [raw(_as(weights[name], target)) for name in names]
        role = "blocks" if isinstance(target, Gguf) else "data"
        return Tensor((len(names), *shape), target, {role: np.stack(parts)})

    given = tuple(weights.about(name).encoding for name in names)
    return _Planned((len(names), *shape), target, make, given)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """What the config says of rope, wherever it says it."""
    parameters = config.get("rope_parameters") or {}
    parameters = parameters.get("full_attention") or parameters  # windowed layers have their own
    given = dict(parameters) | dict(config.get("rope_scaling") or {})
    given["rope_type"] = given.get("rope_type", given.get("type", "default")) or "default"
    given.setdefault("rope_theta", config.get("rope_theta") or 10000.0)
    return given


def _factors(config: Mapping[str, Any]) -> dict[str, FloatArray]:
    rope = _rope(config)
    head = _head_size(config)
    if rope["rope_type"] == "llama3":
        return {"rope_freqs.weight": llama3_factors(rope, float(rope["rope_theta"]), head)}
    if rope["rope_type"] in ("longrope", "su"):
        return {
            f"rope_factors_{which}.weight": np.asarray(rope[f"{which}_factor"], np.float32)
            for which in ("long", "short")
        }
    return {}


def _head_size(config: Mapping[str, Any]) -> int:
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _add_metadata(writer: GGUFWriter, files: ModelFiles, family: Family) -> None:
    config, arch = files.config, family.architecture
    rope = _rope(config)
    head = _head_size(config)
    heads = config["num_attention_heads"]
    given = {"head_dim": head, "num_key_value_heads": heads} | {
        k: v for k, v in config.items() if v is not None
    }
    given["rope_theta"] = rope.get("rope_theta") or given.get("rope_theta", 10000.0)
    given.setdefault("num_experts", given.get("num_local_experts"))
    for key, name in keys_of(family).items():
        if (value := given.get(name)) is None:
            continue
        if key.rpartition(".")[2] in _INTEGERS:
            writer.add_uint32(f"{arch}.{key}", int(value))
        else:
            writer.add_float32(f"{arch}.{key}", float(value))
    writer.add_uint32(f"{arch}.attention.value_length", head)
    turned = int(head * float(config.get("partial_rotary_factor") or 1))
    writer.add_uint32(f"{arch}.rope.dimension_count", turned)
    _add_rope(writer, arch, rope, config)
    writer.add_string("general.name", str(config.get("_name_or_path") or files.path.stem))
    writer.add_quantization_version(2)
    if files.tokenizer.get("kind"):
        _add_tokenizer(writer, files)
    templates = dict(files.tokenizer.get("templates", {}))
    if files.chat_template is not None:
        templates["default"] = files.chat_template
    for name, text in templates.items():
        plain = re.sub(r"[^a-z0-9_]", "_", name.lower())
        suffix = "" if name == "default" else f".{plain}"
        writer.add_string(f"tokenizer.chat_template{suffix}", text)


def _stretch(config: Mapping[str, Any], rope: Mapping[str, Any]) -> float:
    """By what the scaling multiplies cosines and sines."""
    given = {**config, "rope_parameters": None, "rope_scaling": dict(rope)}
    scaling = read(TextConfig, given, str(config["model_type"])).rope().scaling
    return float(scaling.get("attention_factor", 1.0))


def _add_rope(
    writer: GGUFWriter, arch: str, rope: Mapping[str, Any], config: Mapping[str, Any]
) -> None:
    kind = rope["rope_type"]
    original = rope.get("original_max_position_embeddings") or config.get(
        "original_max_position_embeddings"
    )
    if kind in ("linear", "yarn"):
        writer.add_string(f"{arch}.rope.scaling.type", kind)
        writer.add_float32(f"{arch}.rope.scaling.factor", float(rope["factor"]))
    elif kind not in ("default", "llama3", "longrope", "su"):
        raise LlamaError(f"GGUF has no rope scaling of type '{kind}'")
    if kind != "llama3" and original:
        writer.add_uint32(f"{arch}.rope.scaling.original_context_length", int(original))
    if kind == "yarn" and not rope.get("truncate", True):
        raise LlamaError("GGUF's yarn rounds the ends of its ramp, and this model's does not")
    if kind in ("longrope", "su", "yarn"):
        own = yarn_stretch(float(rope["factor"])) if kind == "yarn" else 1.0  # llama.cpp's part
        writer.add_float32(f"{arch}.rope.scaling.attn_factor", _stretch(config, rope) / own)
    windowed = (config.get("rope_parameters") or {}).get("sliding_attention") or {}
    base = config.get("rope_local_base_freq") or windowed.get("rope_theta")
    if base is not None and arch == "gemma3":
        writer.add_float32(f"{arch}.rope.freq_base_swa", float(base))
    for name in ("beta_fast", "beta_slow"):
        if kind == "yarn" and rope.get(name) is not None:
            writer.add_float32(f"{arch}.rope.scaling.yarn_{name}", float(rope[name]))


def _add_tokenizer(writer: GGUFWriter, files: ModelFiles) -> None:
    from gguf import GGUFValueType

    from llama_core.model.tokenizer import open_tokenizer
    from llama_core.model.tokenizer.to_gguf import gguf_metadata

    named = open_tokenizer(files).named
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    ids = {role: named[name] for name, role in roles.items() if name in named}
    for key, value in gguf_metadata(files.tokenizer, ids).items():
        if key.startswith("tokenizer.chat_template"):
            continue
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, bytes) or len(value):
            kind = {"scores": GGUFValueType.FLOAT32, "token_type": GGUFValueType.INT32}
            sub = kind.get(key.rpartition(".")[2])
            items = value if isinstance(value, bytes) else _list(value)
            writer.add_key_value(key, items, GGUFValueType.ARRAY, sub_type=sub)


def _list(value: Array | list[Any]) -> list[Any]:
    return value.tolist() if isinstance(value, np.ndarray) else list(value)
