"""Quantized checkpoints of other tools, read into encodings: GPTQ, AWQ, bitsandbytes,
compressed-tensors, FP8.

It knows how each names its tensors and says its bits; how the numbers then lie is known to the
encodings. Scales of *activations* are dropped: weights are decoded, activations stay exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.errors import did_you_mean
from llama_core.model.encodings import (
    Awq,
    Bnb4,
    BnbInt8,
    Compressed,
    EncodingError,
    Gptq,
    ScaledFloat,
    ScaledInt,
)
from llama_core.model.encodings.base import Shape
from llama_core.model.encodings.words import in_plain_order
from llama_core.model.files.faults import quoted
from llama_core.model.files.jsontext import parse_object
from llama_core.model.files.recipe import NotReadable, Recipe, Stored, check

Reader = Callable[[Stored, str, Mapping[str, Any]], Recipe]


def recipes(stored: Stored, quantization: Mapping[str, Any]) -> tuple[dict[str, Recipe], list[str]]:
    """The encoded tensors of a checkpoint and the faults found. Plain tensors are not listed; a
    stored name that is a part of a recipe is no tensor of its own."""
    method = str(quantization.get("quant_method", "")).lower()
    if not method:
        return {}, []
    if method not in _METHODS:
        near = did_you_mean(method, _METHODS) or f"known are {', '.join(sorted(_METHODS))}"
        return {}, [f"the checkpoint is quantized by {quoted(method)}, which is not read; {near}"]
    found: dict[str, Recipe] = {}
    faults = []
    for name in stored.entries:
        for suffix, reader in _METHODS[method].items():
            if not name.endswith(suffix):
                continue
            base = name.removesuffix(suffix)
            if reader is _scaled and f"{base}.weight_packed" in stored.entries:
                break
            try:
                recipe = reader(stored, base, quantization)
                faults += [f"tensor {quoted(base)}: {why}" for why in check(stored, recipe)]
                found[f"{base}.weight"] = recipe
            except KeyError as error:
                faults.append(f"tensor {quoted(base)}: {quoted(str(error.args[0]))} is missing")
            except (NotReadable, EncodingError) as error:
                faults.append(f"tensor {quoted(base)}: {error}")
            break
    return found, faults


def is_activation_scale(name: str) -> bool:
    """Tensors that only say how activations were scaled."""
    return name.rpartition(".")[2] in _ACTIVATION_SCALES


_ACTIVATION_SCALES = {
    f"{what}_{kind}"
    for what in ("input", "output", "input_global", "activation", "q", "k", "v")
    for kind in ("scale", "zero_point")
}


def _gptq(stored: Stored, base: str, config: Mapping[str, Any]) -> Recipe:
    parts = {part: f"{base}.{part}" for part in ("qweight", "qzeros", "scales")}
    packed, scales = (_matrix(stored, parts[part]) for part in ("qweight", "scales"))
    bits = _number(config, "bits")
    if bits not in (2, 3, 4, 8):
        raise NotReadable(f"GPTQ with {bits} bits is not read")
    columns, rows = packed[0] * 32 // bits, scales[1]
    group = _group(config.get("group_size"), columns, scales[0])
    ordered = False
    if (name := f"{base}.g_idx") in stored.entries:
        g_idx = stored.stored(name)
        if g_idx.shape != (columns,) or g_idx.dtype.kind not in "iu":
            raise NotReadable("'g_idx' does not have an integer for each input")
        ordered = not in_plain_order(g_idx, group or columns)
        parts |= {"g_idx": name} if ordered else {}
    version = str(config.get("checkpoint_format", "gptq"))
    if version not in ("gptq", "gptq_v2"):
        raise NotReadable(f"GPTQ's checkpoint_format {quoted(version)} is not read")
    return Recipe(Gptq(bits, group, ordered, version == "gptq_v2"), (rows, columns), parts)


def _awq(stored: Stored, base: str, config: Mapping[str, Any]) -> Recipe:
    version = str(config.get("version", "gemm")).lower()
    if version != "gemm" or _number(config, "bits", "w_bit") != 4:
        raise NotReadable("only AWQ's version 'gemm' with 4 bits is read")
    parts = {part: f"{base}.{part}" for part in ("qweight", "qzeros", "scales")}
    packed, scales = (_matrix(stored, parts[part]) for part in ("qweight", "scales"))
    group = _group(config.get("group_size", config.get("q_group_size")), packed[0], scales[0])
    return Recipe(Awq(group), (scales[1], packed[0]), parts)


def _bnb_int8(stored: Stored, base: str, _: Mapping[str, Any]) -> Recipe:
    name = f"{base}.weight"
    parts = {"weight": name, "SCB": f"{base}.SCB"}
    return Recipe(BnbInt8(), _matrix(stored, name), parts)


def _bnb4(kind: str) -> Reader:
    def read(stored: Stored, base: str, _: Mapping[str, Any]) -> Recipe:
        weight = f"{base}.weight"
        state_name = f"{weight}.quant_state.bitsandbytes__{kind}"
        text = np.ascontiguousarray(stored.stored(state_name)).tobytes()
        if len(text) > 1 << 16:
            raise NotReadable("its quant_state is too long")
        state = parse_object(text, Path(state_name))
        shape = state.get("shape")
        if not isinstance(shape, list) or not all(
            type(n) is int and 0 <= n < 1 << 40 for n in shape
        ):
            raise NotReadable("its quant_state has no valid shape")
        parts = {"weight": weight, "absmax": f"{weight}.absmax", "quant_map": f"{weight}.quant_map"}
        nested, offset = 0, None
        if f"{weight}.nested_absmax" in stored.entries:
            nested = _number(state, "nested_blocksize")
            value = state.get("nested_offset")
            if not isinstance(value, (int, float)):
                raise NotReadable("its quant_state has no nested_offset")
            offset = float(value)
            parts |= {p: f"{weight}.{p}" for p in ("nested_absmax", "nested_quant_map")}
        encoding = Bnb4(kind, _number(state, "blocksize"), nested)
        return Recipe(encoding, tuple(shape), parts, offset=offset)

    return read


def _packed(stored: Stored, base: str, config: Mapping[str, Any]) -> Recipe:
    packed = _matrix(stored, f"{base}.weight_packed")
    scales = _matrix(stored, f"{base}.weight_scale")
    shape_name = f"{base}.weight_shape"
    if stored.entries[shape_name].shape != (2,):
        raise NotReadable("'weight_shape' is not a pair")
    rows, columns = (int(n) for n in stored.stored(shape_name))
    if not 0 <= rows < 1 << 40 or not 0 <= columns < 1 << 40:
        raise NotReadable("'weight_shape' is out of range")
    parts = {part: f"{base}.{part}" for part in ("weight_packed", "weight_scale")}
    for scheme in _schemes(config):
        bits = _number(scheme, "num_bits")
        if not 2 <= bits <= 8 or -(-columns // (32 // bits)) != packed[1]:
            continue
        group = _group(scheme.get("group_size"), columns, scales[1])
        symmetric = f"{base}.weight_zero_point" not in stored.entries
        if not symmetric:
            parts["weight_zero_point"] = f"{base}.weight_zero_point"
        ordered = False
        if (name := f"{base}.weight_g_idx") in stored.entries:
            g_idx = stored.stored(name)
            ordered = not ((g_idx == -1).all() or in_plain_order(g_idx, group or columns))
            parts |= {"weight_g_idx": name} if ordered else {}
        return Recipe(Compressed(bits, group, symmetric, ordered), (rows, columns), parts)
    raise NotReadable("no scheme in the config fits the words of 'weight_packed'")


def _scaled(stored: Stored, base: str, config: Mapping[str, Any]) -> Recipe:
    weight = f"{base}.weight"
    scale = f"{base}.weight_scale"
    if scale not in stored.entries:
        scale = f"{base}.weight_scale_inv"
    entry, (rows, columns) = stored.entries[weight], _matrix(stored, weight)
    grid = stored.entries[scale].shape
    parts = {"weight": weight, "weight_scale": scale}
    flat = grid in ((), (1,), (1, 1), (rows,))
    if entry.kind in ("f8e4m3", "f8e5m2"):
        tile = (1, 0) if grid in ((rows,), (rows, 1)) else (0, 0)
        if not flat and tile == (0, 0):
            tile = _tile(config, (rows, columns), grid)
        shape = (rows if tile == (1, 0) else 1, 1)
        reshape = {"weight_scale": shape} if flat else None
        return Recipe(ScaledFloat(entry.kind, *tile), (rows, columns), parts, reshape)
    if entry.kind != "i8":
        raise NotReadable(f"scales beside a weight of type {entry.kind} are not read")
    group = 0 if flat else _group(_schemes(config)[0].get("group_size"), columns, grid[-1])
    zeros = f"{base}.weight_zero_point"
    reshape = {"weight_scale": (rows, 1)} if flat else {}
    if zeros in stored.entries:
        parts["weight_zero_point"] = zeros
        reshape |= {"weight_zero_point": (rows, 1)} if flat else {}
    return Recipe(ScaledInt(group, zeros not in stored.entries), (rows, columns), parts, reshape)


def _schemes(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """How compressed-tensors says the weights are held, for each group of layers."""
    groups = config.get("config_groups")
    found = [
        group["weights"]
        for group in (groups.values() if isinstance(groups, Mapping) else ())
        if isinstance(group, Mapping) and isinstance(group.get("weights"), Mapping)
    ]
    if not found:
        raise NotReadable("the config has no config_groups with weights")
    return found


def _tile(config: Mapping[str, Any], shape: Shape, grid: Shape) -> tuple[int, int]:
    """The rows and columns that one scale is for."""
    given = config.get("weight_block_size")
    if given is None and isinstance(config.get("config_groups"), Mapping):
        scheme = _schemes(config)[0]
        given = scheme.get("block_structure")
        if given is None and isinstance(scheme.get("group_size"), int):
            given = [1, scheme["group_size"]]
    if isinstance(given, list) and len(given) == 2 and all(type(n) is int and n > 0 for n in given):
        return given[0], given[1]
    raise NotReadable(f"its scales {list(grid)} for {list(shape)} come without a block size")


def _matrix(stored: Stored, name: str) -> tuple[int, int]:
    shape = stored.entries[name].shape
    if len(shape) != 2:
        raise NotReadable(f"{quoted(name)} is not a matrix but has shape {list(shape)}")
    return shape[0], shape[1]


def _number(config: Mapping[str, Any], *keys: str) -> int:
    for key in keys:
        if type(value := config.get(key)) is int and 0 < value < 1 << 20:
            return value
    raise NotReadable(f"the config gives no valid '{keys[0]}'")


def _group(given: object, columns: int, groups: int) -> int:
    """Columns a group; 0 for whole rows."""
    if groups == 1 and (given in (-1, None, 0) or (type(given) is int and given >= columns)):
        return 0
    if type(given) is not int or not 0 < given < 1 << 20:
        raise NotReadable(f"the config's group_size {given!r} does not fit {groups} groups")
    return given


_COMPRESSED: dict[str, Reader] = {".weight_packed": _packed, ".weight_scale": _scaled}
_METHODS: dict[str, dict[str, Reader]] = {
    "gptq": {".qweight": _gptq},
    "awq": {".qweight": _awq},
    "bitsandbytes": {
        ".SCB": _bnb_int8,
        ".weight.quant_state.bitsandbytes__nf4": _bnb4("nf4"),
        ".weight.quant_state.bitsandbytes__fp4": _bnb4("fp4"),
    },
    "compressed-tensors": _COMPRESSED,
    "fp8": {".weight_scale_inv": _scaled, ".weight_scale": _scaled},
}
