"""GGUF files: what others write is read, what we write others read, lies are refused."""

from __future__ import annotations

import struct
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llama_core.announce import Announcements
from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError, StrictError
from llama_core.model.encodings.base import Array
from llama_core.model.files import ModelFileError
from llama_core.model.files.finite import numbers_at_fault
from llama_core.model.files.gguf_header import TYPES, GgufFile
from llama_core.model.files.gguf_names import FAMILIES, Family, UnknownFamily
from llama_core.model.files.gguf_weights import permuted
from llama_core.model.weights import DenseWeights, reencoded

FORMAT = GgufFormat()
ONE_THIRD_MORE = {"attention_factor": 4 / 3}
LAYERS, HIDDEN, HEADS, KV_HEADS, HEAD, INNER, EXPERTS = 2, 64, 4, 2, 16, 96, 4


def config_of(model_type: str) -> dict[str, Any]:
    config: dict[str, Any] = {
        "model_type": model_type, "hidden_size": HIDDEN, "intermediate_size": INNER,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "head_dim": HEAD,
        "num_key_value_heads": KV_HEADS, "vocab_size": 50, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-6, "rope_theta": 50000.0, "tie_word_embeddings": False,
    }  # fmt: skip
    more: dict[str, dict[str, Any]] = {
        "mistral": {"sliding_window": 32},
        "mixtral": {"num_local_experts": EXPERTS, "num_experts_per_tok": 2},
        "qwen3_moe": {"num_experts": EXPERTS, "num_experts_per_tok": 2, "moe_intermediate_size": 32,
                      "norm_topk_prob": True},
        "granite": {"attention_multiplier": 0.1, "embedding_multiplier": 12.0,
                    "residual_multiplier": 0.2, "logits_scaling": 8.0},
        "gemma2": {"sliding_window": 32, "attn_logit_softcapping": 50.0,
                   "final_logit_softcapping": 30.0, "query_pre_attn_scalar": HEAD},
        "gemma3_text": {"sliding_window": 32, "query_pre_attn_scalar": HEAD,
                        "rope_local_base_freq": 10000.0, "sliding_window_pattern": 6},
        "llama": {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                  "high_freq_factor": 4.0, "original_max_position_embeddings": 64}},
        "qwen2": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "beta_fast": 32.0,
                                   "original_max_position_embeddings": 32}},
        "qwen3": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        "phi3": {"partial_rotary_factor": 0.5, "original_max_position_embeddings": 64,
                 "rope_scaling": {"rope_type": "longrope", "attention_factor": 1.25,
                                  "long_factor": [2.0, 3.0, 4.0, 5.0],
                                  "short_factor": [1.0, 1.0, 1.0, 1.5]}},
    }  # fmt: skip
    return config | more.get(model_type, {})


def shapes_of(family: Family) -> dict[str, tuple[int, ...]]:
    queries, keys = HEADS * HEAD, KV_HEADS * HEAD
    by_part = {
        "q_proj": (queries, HIDDEN), "k_proj": (keys, HIDDEN), "v_proj": (keys, HIDDEN),
        "o_proj": (HIDDEN, queries), "gate_proj": (INNER, HIDDEN), "up_proj": (INNER, HIDDEN),
        "down_proj": (HIDDEN, INNER), "gate": (EXPERTS, HIDDEN),
        "qkv_proj": (queries + 2 * keys, HIDDEN), "gate_up_proj": (2 * INNER, HIDDEN),
        "q_norm": (HEAD,), "k_norm": (HEAD,),
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (50, HIDDEN),
        "model.norm.weight": (HIDDEN,),
        "lm_head.weight": (50, HIDDEN),
    }
    for layer in range(LAYERS):
        for path in family.layer.values():
            shape = by_part.get(path.rpartition(".")[2], (HIDDEN,))
            shapes[f"model.layers.{layer}.{path}.weight"] = shape
        for stem, path in family.experts.items():
            shape = (HIDDEN, 32) if "down" in stem else (32, HIDDEN)
            for expert in range(EXPERTS):
                shapes[f"model.layers.{layer}.{path.replace('{e}', str(expert))}.weight"] = shape
    return shapes


def weights_of(family: Family, seed: int = 0) -> DenseWeights:
    rng = np.random.default_rng(seed)
    return DenseWeights(
        {
            name: rng.standard_normal(shape).astype(np.float16 if len(shape) > 1 else np.float32)
            for name, shape in shapes_of(family).items()
        }
    )


def model(tmp_path: Path, model_type: str = "llama", **config: Any) -> ModelFiles:
    family = next(one for one in FAMILIES if one.model_type == model_type)
    return ModelFiles(tmp_path, "test", config_of(model_type) | config, weights_of(family))


@pytest.mark.parametrize("model_type", [family.model_type for family in FAMILIES])
def test_every_family_is_written_and_read_again(tmp_path: Path, model_type: str) -> None:
    given = model(tmp_path, model_type)
    FORMAT.save(given, tmp_path / "m.gguf")
    assert FORMAT.detects(tmp_path / "m.gguf")
    found = FORMAT.open(tmp_path / "m.gguf")
    for key, value in given.config.items():
        wanted = pytest.approx(value) if isinstance(value, float) else value
        assert found.config[key] == wanted, key
    assert set(found.weights) == set(given.weights)
    for name in given.weights:
        assert np.allclose(found.weights.array(name), given.weights.array(name), atol=3e-7), name
    SafetensorsFormat().save(found, tmp_path / "folder")
    again = SafetensorsFormat().open(tmp_path / "folder")
    for name in given.weights:
        assert np.array_equal(again.weights.array(name), found.weights.array(name))


def test_newer_words_for_rope_and_experts_are_written(tmp_path: Path) -> None:
    """Configs of transformers 5: rope by kind of layer, and Mixtral's name for all experts."""
    ropes = {"full_attention": {"rope_type": "default", "rope_theta": 5e5},
             "sliding_attention": {"rope_type": "default", "rope_theta": 2e3}}  # fmt: skip
    given = model(tmp_path, "gemma3_text", rope_parameters=ropes, rope_theta=None,
                  rope_local_base_freq=None)  # fmt: skip
    FORMAT.save(given, tmp_path / "gemma.gguf")
    found = FORMAT.open(tmp_path / "gemma.gguf").config
    assert (found["rope_theta"], found["rope_local_base_freq"]) == (5e5, 2e3)
    given = model(tmp_path, "qwen3_moe", num_experts=None, num_local_experts=EXPERTS)
    FORMAT.save(given, tmp_path / "experts.gguf")
    assert FORMAT.open(tmp_path / "experts.gguf").config["num_experts"] == EXPERTS


def test_yarn_keeps_its_attention_factor(tmp_path: Path) -> None:
    """Files hold what it is more than by rule; a ramp that is not rounded they cannot hold."""
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}
    plain, own = (model(tmp_path, rope_scaling=yarn | more) for more in ({}, ONE_THIRD_MORE))
    FORMAT.save(plain, tmp_path / "plain.gguf")
    FORMAT.save(own, tmp_path / "own.gguf")
    assert "attention_factor" not in FORMAT.open(tmp_path / "plain.gguf").config["rope_scaling"]
    kept = FORMAT.open(tmp_path / "own.gguf").config["rope_scaling"]["attention_factor"]
    assert kept == pytest.approx(ONE_THIRD_MORE["attention_factor"])
    reader = gguf.GGUFReader(tmp_path / "own.gguf")
    more = reader.fields["llama.rope.scaling.attn_factor"].parts[-1][0]
    assert more * (1 + 0.1 * np.log(4)) == pytest.approx(kept)
    with pytest.raises(LlamaError, match="ramp"):
        FORMAT.save(model(tmp_path, rope_scaling=yarn | {"truncate": False}), tmp_path / "no.gguf")


UNSAYABLE: list[tuple[str, dict[str, Any], str]] = [
    ("gemma2", {"query_pre_attn_scalar": 7}, "scale"),
    ("gemma3_text", {"sliding_window_pattern": 2}, "window"),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "window"),
    ("qwen3_moe", {"norm_topk_prob": False}, "normalize"),
    ("llama", {"hidden_act": "gelu"}, "fn"),
]


@pytest.mark.parametrize(("model_type", "config", "what"), UNSAYABLE)
def test_a_model_that_gguf_has_no_words_for_is_not_written(
    tmp_path: Path, model_type: str, config: dict[str, Any], what: str
) -> None:
    with pytest.raises(LlamaError, match=rf"GGUF cannot say .*{what} is .*, and would be"):
        FORMAT.save(model(tmp_path, model_type, **config), tmp_path / "m.gguf")
    assert not list(tmp_path.iterdir())


def test_the_gguf_package_reads_what_we_write(tmp_path: Path) -> None:
    given = model(tmp_path)
    FORMAT.save(given, tmp_path / "m.gguf")
    reader = gguf.GGUFReader(tmp_path / "m.gguf")
    tensors = {one.name: one for one in reader.tensors}
    assert tensors["blk.0.attn_q.weight"].tensor_type == gguf.GGMLQuantizationType.F16
    assert tensors["output_norm.weight"].tensor_type == gguf.GGMLQuantizationType.F32
    assert reader.fields["llama.attention.head_count_kv"].parts[-1][0] == KV_HEADS
    stored = tensors["blk.1.attn_q.weight"].data
    q = given.weights.array("model.layers.1.self_attn.q_proj.weight")
    assert np.array_equal(stored, converters_permute(q, HEADS))


def converters_permute(weights: Array, heads: int) -> Array:
    """As llama.cpp's converter has it."""
    return (
        weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:])
        .swapaxes(1, 2)
        .reshape(weights.shape)
    )


@pytest.mark.parametrize(("rows", "heads"), [(64, 4), (48, 3), (20, 1)])
def test_rows_of_heads_are_put_back(rows: int, heads: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, 3))
    assert np.array_equal(x[permuted(rows, heads)], converters_permute(x, heads))


QUANTIZED = [e.name for e in TYPES.values() if e.name.startswith("gguf:")]


@pytest.mark.parametrize("name", [*QUANTIZED, "f32", "f16", "bf16"])
def test_encodings_of_the_format_are_kept(tmp_path: Path, name: str) -> None:
    given = model(tmp_path, hidden_size=256, num_attention_heads=4, head_dim=64)
    wide = DenseWeights(
        {n: np.random.default_rng(1).standard_normal((256, 256)).astype(np.float32)
         if len(t.shape) > 1 else np.ones(256, np.float32) for n, t in given.weights.items()}
    )  # fmt: skip
    weights = reencoded(wide, lambda n, t: name if len(t.shape) > 1 else None)
    config = dict(given.config) | {"num_key_value_heads": 4, "rope_scaling": None}
    FORMAT.save(ModelFiles(tmp_path, "t", config, weights), tmp_path / "m.gguf")
    found = FORMAT.open(tmp_path / "m.gguf").weights
    for tensor_name in weights:
        assert found[tensor_name].encoding.name == (name if "norm" not in tensor_name else "f32")
        assert np.array_equal(found.array(tensor_name), weights.array(tensor_name))


@pytest.mark.parametrize(
    ("name", "becomes"),
    [
        ("q4:g32", "gguf:q4_0"),
        ("q5:g32:min", "gguf:q5_1"),
        ("q8:g32", "gguf:q8_0"),
        ("nf4:g64", "f16"),
    ],
)
def test_other_encodings_become_what_the_format_has(
    tmp_path: Path, name: str, becomes: str
) -> None:
    given = model(tmp_path)
    weights = reencoded(given.weights, lambda n, t: name if ".mlp." in n else None)
    FORMAT.save(ModelFiles(tmp_path, "t", given.config, weights), tmp_path / "m.gguf")
    found = FORMAT.open(tmp_path / "m.gguf").weights["model.layers.0.mlp.up_proj.weight"]
    wanted = weights.array("model.layers.0.mlp.up_proj.weight")
    assert found.encoding.name == becomes
    assert np.allclose(found.decode(), wanted, rtol=0 if becomes != "f16" else 1e-3, atol=1e-7)


def test_what_the_format_cannot_hold_is_said_and_refused_under_strict(tmp_path: Path) -> None:
    given = model(tmp_path)

    def choose(name: str, _: object) -> str | None:
        return "nf4:g64" if ".up_proj" in name else "q4:g32" if ".down_proj" in name else None

    files = replace(given, weights=reencoded(given.weights, choose))
    with pytest.raises(StrictError, match=r"2 tensors in 'nf4:g64'.*f16.*gguf:q4_k"):
        GgufFormat(Announcements(strict=True)).save(files, tmp_path / "m.gguf")
    assert list(tmp_path.iterdir()) == []
    loud = Announcements()
    GgufFormat(loud).save(files, tmp_path / "m.gguf")
    [said] = loud.counts
    assert "no place for 2 tensors in 'nf4:g64': they are written in f16" in said
    quiet = Announcements(strict=True)
    GgufFormat(quiet).save(given, tmp_path / "plain.gguf")
    assert not quiet.counts


def test_saving_never_overwrites_and_unknown_models_say_what_is_near(tmp_path: Path) -> None:
    given = model(tmp_path)
    (tmp_path / "m.gguf").write_bytes(b"here")
    with pytest.raises(LlamaError, match="already there"):
        FORMAT.save(given, tmp_path / "m.gguf")
    odd = ModelFiles(tmp_path, "t", {**given.config, "model_type": "qwen4"}, given.weights)
    with pytest.raises(UnknownFamily, match=r"Did you mean 'qwen"):
        FORMAT.save(odd, tmp_path / "n.gguf")
    more = DenseWeights({"model.layers.0.mystery.weight": np.ones((2, 2), np.float32)})
    with pytest.raises(UnknownFamily, match="mystery"):
        FORMAT.save(ModelFiles(tmp_path, "t", given.config, more), tmp_path / "n.gguf")
    assert {p.name for p in tmp_path.iterdir()} == {"m.gguf"}


# Files by others ---------------------------------------------------------------------------------


def writer(path: Path, **config: Any) -> gguf.GGUFWriter:
    made = gguf.GGUFWriter(path, "llama")
    made.add_embedding_length(HIDDEN)
    made.add_block_count(1)
    made.add_feed_forward_length(INNER)
    made.add_head_count(HEADS)
    return made


def finish(made: gguf.GGUFWriter) -> None:
    made.write_header_to_file()
    made.write_kv_data_to_file()
    made.write_tensors_to_file()
    made.close()


def test_both_versions_are_read(tmp_path: Path) -> None:
    made = writer(tmp_path / "m.gguf")
    made.add_tensor("token_embd.weight", np.ones((7, HIDDEN), np.float32))
    finish(made)
    data = bytearray((tmp_path / "m.gguf").read_bytes())
    for version in (2, 3):
        data[4:8] = struct.pack("<I", version)
        (tmp_path / "m.gguf").write_bytes(data)
        found = FORMAT.open(tmp_path / "m.gguf")
        assert found.config["vocab_size"] == 7
        assert found.config["tie_word_embeddings"] is True
        assert found.weights["model.embed_tokens.weight"].shape == (7, HIDDEN)
    for version, says in ((1, "version 1 is not read"), (3 << 24, "other byte order")):
        data[4:8] = struct.pack("<I", version)
        (tmp_path / "m.gguf").write_bytes(data)
        with pytest.raises(ModelFileError, match=says):
            FORMAT.open(tmp_path / "m.gguf")


def test_experts_of_old_files_and_files_in_parts(tmp_path: Path) -> None:
    for part in (1, 2):
        made = writer(tmp_path / f"m-0000{part}-of-00002.gguf")
        made.add_uint32("llama.expert_count", 2)
        made.add_uint16("split.count", 2)
        x = np.full((INNER, HIDDEN), part, np.float32)
        made.add_tensor(f"blk.0.ffn_gate.{part - 1}.weight", x)
        finish(made)
    found = FORMAT.open(tmp_path / "m-00001-of-00002.gguf")
    assert found.config["model_type"] == "mixtral"
    name = "model.layers.0.block_sparse_moe.experts.1.w1.weight"
    assert found.weights.array(name)[0, 0] == 2
    (tmp_path / "m-00002-of-00002.gguf").unlink()
    with pytest.raises(ModelFileError, match=r"m-00002-of-00002\.gguf is missing"):
        FORMAT.open(tmp_path / "m-00001-of-00002.gguf")


def test_unknown_architectures_say_what_is_near(tmp_path: Path) -> None:
    made = gguf.GGUFWriter(tmp_path / "m.gguf", "lama")
    finish(made)
    with pytest.raises(UnknownFamily, match="Did you mean 'llama'"):
        FORMAT.open(tmp_path / "m.gguf")


def test_metadata_that_is_missing_or_wrong_is_listed_at_once(tmp_path: Path) -> None:
    made = gguf.GGUFWriter(tmp_path / "m.gguf", "llama")
    made.add_string("llama.embedding_length", "wide")
    made.add_array("llama.feed_forward_length", [1, 2])
    made.add_float32("llama.rope.freq_base", float("nan"))
    made.add_array("llama.expert_count", [1, 2])
    finish(made)
    with pytest.raises(ModelFileError) as caught:
        FORMAT.open(tmp_path / "m.gguf")
    assert len(caught.value.faults) >= 5
    for word in ("'wide'", "differs between layers", "num_hidden_layers", "freq_base"):
        assert word in str(caught.value)


def test_a_tensor_past_four_gigabytes_of_a_sparse_file(tmp_path: Path) -> None:
    rows = (5 << 30) // (4 * HIDDEN)
    infos = [("token_embd.weight", (rows, HIDDEN), 0, 0), ("tail", (2, 32), 8, rows * HIDDEN * 4)]
    path = tmp_path / "m.gguf"
    start = header(path, infos=infos)
    block = np.concatenate([np.array([0.5], "<f2").view(np.uint8), np.arange(32, dtype=np.uint8)])
    with path.open("r+b") as file:
        file.seek(start + rows * HIDDEN * 4)
        file.write(np.tile(block, 2).tobytes())
    began = time.monotonic()
    opened = GgufFile(path)
    assert np.array_equal(opened.tensor("tail").decode(), np.tile(np.arange(32) / 2, (2, 1)))
    assert opened.tensor("token_embd.weight").cut(0, rows - 1, rows).decode().sum() == 0
    assert time.monotonic() - began < 10  # a watchdog: nothing was read through


# Lies --------------------------------------------------------------------------------------------

Info = tuple[str, tuple[int, ...], int, int]


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def key(name: str, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def header(
    path: Path,
    keys: list[bytes] | None = None,
    infos: list[Info] | None = None,
    data: bytes = b"",
    counts: tuple[int, int] | None = None,
) -> int:
    """Write a file by hand; gives where its data begins."""
    keys, infos = keys or [], infos or []
    num_tensors, num_keys = counts or (len(infos), len(keys))
    out = b"GGUF" + struct.pack("<IQQ", 3, num_tensors, num_keys) + b"".join(keys)
    for name, shape, kind, offset in infos:
        out += text(name) + struct.pack("<I", len(shape))
        out += struct.pack(f"<{len(shape)}Q", *reversed(shape)) + struct.pack("<IQ", kind, offset)
    out += bytes(-len(out) % 32)
    path.write_bytes(out + data)
    return len(out)


U32 = struct.pack("<I", 7)
LONG = struct.pack("<IQ", 8, 1 << 60)
MALFORMED: dict[str, tuple[dict[str, Any], str]] = {
    "counts": ({"counts": (1 << 60, 0)}, "do not fit"),
    "keys": ({"counts": (0, 1 << 60)}, "do not fit"),
    "key length": ({"keys": [struct.pack("<Q", 1 << 60) + bytes(20)]}, "bytes are wanted"),
    "key UTF-8": ({"keys": [text(b"\xff") + U32 * 2]}, "UTF-8"),
    "key twice": ({"keys": [key("a", 4, U32), key("a", 4, U32)]}, "'a' is there twice"),
    "type": ({"keys": [key("a", 99, bytes(8))]}, "type 99"),
    "array": ({"keys": [key("a", 9, struct.pack("<IQ", 4, 1 << 60))]}, "bytes are wanted"),
    "texts": ({"keys": [key("a", 9, LONG)]}, "an array of 1152921504606846976"),
    "nesting": ({"keys": [key("a", 9, struct.pack("<IQ", 9, 1) * 9 + bytes(12))]}, "too deeply"),
    "alignment": ({"keys": [key("general.alignment", 4, struct.pack("<I", 3))]}, "is 3"),
    "no alignment": ({"keys": [key("general.alignment", 8, text("x"))]}, "is str, not a power"),
    "axes": ({"infos": [("a", (1,) * 9, 0, 0)]}, "9 axes"),
    "past the end": ({"infos": [("a", (8,), 0, 0)], "data": bytes(31)}, "ends past"),
    "cut": ({"infos": [(name, (8,), 0, 32 * n) for n, name in enumerate("abc")],
             "data": bytes(40)}, "'b' of 32 bytes at [0-9]+ ends past .*, as do 1 more"),
    "offset": ({"infos": [("a", (8,), 0, 1 << 62)], "data": bytes(32)}, "ends past"),
    "product": ({"infos": [("a", (1 << 60, 1 << 60), 0, 0)], "data": bytes(32)}, "cannot have"),
    "unaligned": ({"infos": [("a", (8,), 0, 8)], "data": bytes(64)}, "not at a multiple of 32"),
    "overlap": ({"infos": [("a", (16,), 0, 0), ("b", (8,), 0, 32)], "data": bytes(64)},
                "'b' overlaps tensor 'a'"),
    "tensor twice": ({"infos": [("a", (8,), 0, 0), ("a", (8,), 0, 32)], "data": bytes(64)},
                     "twice"),
    "unread": ({"infos": [("a", (256,), 16, 0)], "data": bytes(512)}, "IQ2_XXS, which is not read"),
    "no type": ({"infos": [("a", (8,), 77, 0)], "data": bytes(32)}, "number 77"),
    "blocks": ({"infos": [("a", (2, 33), 8, 0)], "data": bytes(512)}, "no rows of whole"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(tmp_path: Path, case: str) -> None:
    content, says = MALFORMED[case]
    header(tmp_path / "m.gguf", **content)
    with pytest.raises(ModelFileError, match=says):
        GgufFile(tmp_path / "m.gguf")


def test_all_faults_of_tensors_are_listed_at_once(tmp_path: Path) -> None:
    infos: list[Info] = [("a", (8,), 99, 0), ("b", (8,), 0, 7), ("c", (999,), 0, 0)]
    infos.append(("c", (8,), 0, 0))
    header(tmp_path / "m.gguf", infos=infos, data=bytes(64))
    with pytest.raises(ModelFileError, match="4 faults") as caught:
        GgufFile(tmp_path / "m.gguf")
    assert len(caught.value.faults) == 4


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    made = writer(tmp_path / "m.gguf")
    made.add_array("some", ["a", "b"])
    made.add_tensor("token_embd.weight", np.ones((7, HIDDEN), np.float32))
    finish(made)
    whole = (tmp_path / "m.gguf").read_bytes()
    for length in [*range(0, 400, 7), len(whole) - 1]:
        (tmp_path / "cut.gguf").write_bytes(whole[:length])
        with pytest.raises(ModelFileError):
            GgufFile(tmp_path / "cut.gguf")


def test_numbers_that_are_none_are_found_when_asked_for() -> None:
    x = np.ones((4, 8), np.float32)
    bad = x.copy()
    bad[1, 2], bad[2, 3] = np.nan, -np.inf
    weights = DenseWeights({"good": x, "bad": bad, "half": bad.astype(np.float16)})
    faults = numbers_at_fault(weights)
    assert len(faults) == 2
    assert "'bad' holds 2 numbers" in faults[0]


def test_rows_that_are_no_heads_and_stacks_that_are_none(tmp_path: Path) -> None:
    made = writer(tmp_path / "m.gguf")
    made.add_tensor("blk.0.attn_q.weight", np.ones((7, HIDDEN), np.float32))
    finish(made)
    with pytest.raises(ModelFileError, match="is not 4 heads"):
        FORMAT.open(tmp_path / "m.gguf")


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("rope.scale_linear", [1, 2], "not a number from 0 on"),
        ("rope.scaling.factor", -1.0, "'-1.0', not a number from 0 on"),
        ("rope.scaling.type", "spiral", "'spiral' is not known"),
        ("rope.dimension_count", "all", "'all', not a number"),
    ],
)
def test_rope_that_makes_no_sense(tmp_path: Path, key: str, value: Any, says: str) -> None:
    made = writer(tmp_path / "m.gguf")
    kind = gguf.GGUFValueType.get_type(value)
    made.add_key_value(f"llama.{key}", value, kind)
    made.add_tensor("rope_freqs.weight", np.zeros(8, np.float32))
    finish(made)
    with pytest.raises(ModelFileError, match=says) as caught:
        FORMAT.open(tmp_path / "m.gguf")
    assert "not what Llama 3's rule gives" in str(caught.value)
