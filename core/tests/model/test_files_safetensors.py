"""Hugging Face folders: read lazily, written whole, refused with all that is wrong with them."""

from __future__ import annotations

import json
import os
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from llama_core.announce import Announcements
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError
from llama_core.model.encodings.base import Array
from llama_core.model.encodings.plain import float8_values
from llama_core.model.files import FileChanged, ModelFileError, UnknownModel, open_model
from llama_core.model.files import safetensors as our_writer
from llama_core.model.files.safetensors import SafetensorsFile
from llama_core.model.files.save_folder import save_folder
from llama_core.model.weights import DenseWeights, OverlayWeights, TensorWeights, reencoded, tensor

FORMAT = SafetensorsFormat()
X = np.random.default_rng(0).standard_normal((6, 32)).astype(np.float32)


def folder(path: Path, tensors: dict[str, Array] | None = None, **config: Any) -> Path:
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({"model_type": "llama", **config}))
    safetensors.numpy.save_file(tensors or {"w": X}, path / "model.safetensors")
    return path


def raw_file(path: Path, header: Any, data: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


def saved(tmp_path: Path, weights: Any, **config: Any) -> ModelFiles:
    files = ModelFiles(tmp_path, "test", {"model_type": "llama", **config}, weights)
    FORMAT.save(files, tmp_path / "saved")
    return FORMAT.open(tmp_path / "saved")


def test_a_folder_is_opened(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", {"a": X, "b": X.astype(np.float16), "i": np.arange(3)})
    (path / "generation_config.json").write_text('{"eos_token_id": [1, 2]}')
    assert FORMAT.detects(path)
    files = FORMAT.open(path)
    assert files.config["model_type"] == "llama"
    assert files.generation == {"eos_token_id": [1, 2]}
    assert files.weights["b"].encoding.name == "f16"
    assert np.array_equal(files.weights.array("a"), X)
    assert not files.weights["a"].parts["data"].flags.owndata  # a view of the file
    assert FORMAT.open(path / "model.safetensors").weights["a"].shape == (6, 32)


def test_what_is_told_of_tensors_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = saved(tmp_path, reencoded(DenseWeights({"w": X}), lambda *_: "q4:g32"))
    whole = files.weights["w"]
    monkeypatch.setattr(SafetensorsFile, "array", None)
    assert files.weights.about("w") == (whole.shape, whole.encoding)
    assert "w" in files.weights
    assert "w.codes" not in files.weights


def test_every_plain_type_is_read(tmp_path: Path) -> None:
    sizes = {
        "BF16": 2,
        "F8_E4M3": 1,
        "F8_E5M2": 1,
        "BOOL": 1,
        "U8": 1,
        "I16": 2,
        "F64": 8,
        "U64": 8,
    }
    header, at = {}, 0
    for kind, size in sizes.items():
        header[kind] = entry(at, at + 3 * size, (3,), kind)
        at += 3 * size
    raw_file(tmp_path / "f.safetensors", header, bytes([1] * at))
    file = SafetensorsFile(tmp_path / "f.safetensors")
    for kind in sizes:
        assert file.tensor(kind).encoding.name == kind.lower().replace("_", "")
        assert file.tensor(kind).decode().shape == (3,)


def test_what_we_write_the_safetensors_package_reads(tmp_path: Path) -> None:
    tensors = {
        "odd": tensor(np.arange(3, dtype=np.int8)),
        "x": tensor(X),
        "half": tensor(X[:5, :7].astype(np.float16)),
        "none": tensor(np.zeros((0, 4), np.float32)),
        "one": tensor(np.array(2.5)),
    }
    our_writer.write(tmp_path / "f.safetensors", tensors, {"format": "pt"})
    found = safetensors.numpy.load_file(tmp_path / "f.safetensors")
    assert found.keys() == tensors.keys()
    for name, one in tensors.items():
        assert np.array_equal(found[name], one.parts["data"])
    with safetensors.safe_open(tmp_path / "f.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_shards_and_their_index(tmp_path: Path) -> None:
    weights = DenseWeights({f"w{i}": X + i for i in range(5)})
    files = ModelFiles(tmp_path, "test", {"model_type": "llama"}, weights)
    save_folder(files, tmp_path / "m", shard_bytes=2 * X.nbytes)
    names = sorted(p.name for p in (tmp_path / "m").iterdir())
    assert names == [
        "config.json",
        *(f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)),
        "model.safetensors.index.json",
    ]
    opened = FORMAT.open(tmp_path / "m")
    assert np.array_equal(opened.weights.array("w4"), X + 4)
    (tmp_path / "m" / "model.safetensors.index.json").unlink()  # the shards' names suffice
    assert len(FORMAT.open(tmp_path / "m").weights) == 5
    (tmp_path / "m" / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(ModelFileError, match=r"model-00002-of-00003.safetensors is missing"):
        FORMAT.open(tmp_path / "m")


def test_what_only_we_read_is_said(tmp_path: Path) -> None:
    said = Announcements(strict=True)  # nothing is lost, so it is no fallback
    weights = reencoded(DenseWeights({"a.weight": X, "b.weight": X}), lambda *_: "q8:g32")
    config = {"model_type": "llama"}
    save_folder(ModelFiles(tmp_path, "test", config, weights), tmp_path / "ours", said)
    [text] = said.counts
    assert "2 tensors in 'q8:g32' as only this program reads them" in text
    plain = ModelFiles(tmp_path, "test", config, DenseWeights({"a.weight": X}))
    save_folder(plain, tmp_path / "plain", said)
    assert len(said.counts) == 1


def test_an_index_that_lies_is_refused_with_all_its_lies(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    index = path / "model.safetensors.index.json"
    placed = dict.fromkeys(("w", "gone", "lost"), "model.safetensors")
    index.write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(ModelFileError, match=r"2 faults: .*'gone'.*'lost'"):
        FORMAT.open(path)
    for file in ("../m/model.safetensors", "/etc/passwd", "a\0.safetensors", "config.json", 7):
        index.write_text(json.dumps({"weight_map": {"w": file}}))
        with pytest.raises(ModelFileError, match="not a file of this folder"):
            FORMAT.open(path)
    index.write_text('{"weight_map": {"w": "nowhere.safetensors"}}')
    with pytest.raises(ModelFileError, match=r"nowhere.safetensors"):
        FORMAT.open(path)


def entry(first: int, last: int, shape: Any = (2,), dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [first, last]}


MALFORMED: dict[str, tuple[Any, bytes, str]] = {
    "not JSON": (b"{nope", b"", "not JSON"),
    "not UTF-8": (b'{"\xff": 1}', b"", "not UTF-8 at byte 2"),
    "a list": ([1], b"", "expected a JSON object, found a list"),
    "deep": (b'{"a":' * 200_000 + b"1", b"", "nested too deeply|values"),
    "twice": (b'{"a":1,"a":2}', b"", "key 'a' is there twice"),
    "no fields": ({"a": {}}, b"", "'a' lacks dtype"),
    "type": ({"a": entry(0, 8, dtype="F33")}, bytes(8), "unknown type 'F33'"),
    "negative": ({"a": entry(0, 8, (-2,))}, bytes(8), "no valid shape"),
    "floats": ({"a": entry(0, 8, (2.0,))}, bytes(8), "no valid shape"),
    "huge": ({"a": entry(0, 8, (1 << 60, 1 << 60))}, bytes(8), "no valid shape"),
    "huge and empty": ({"a": entry(0, 0, (0, 1 << 60))}, b"", "no valid shape"),
    "past the end": ({"a": entry(0, 16, (4,))}, bytes(8), r"\[0, 16\), outside the 8 bytes"),
    "backwards": ({"a": entry(8, 0)}, bytes(8), r"\[8, 0\)"),
    "wrong size": ({"a": entry(0, 8, (3,))}, bytes(8), "takes 12 bytes, its offsets give 8"),
    "overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12), "'b' overlaps tensor 'a'"),
    "hole": ({"a": entry(0, 8), "b": entry(12, 20)}, bytes(20), "4 bytes before tensor 'b'"),
    "rest": ({"a": entry(0, 8)}, bytes(12), "4 bytes after the last tensor"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "not a mapping of strings"),
    "offsets": ({"a": entry(0, 1 << 70)}, b"", "no valid offsets"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_headers(tmp_path: Path, case: str) -> None:
    header, data, says = MALFORMED[case]
    with pytest.raises(ModelFileError, match=says):
        SafetensorsFile(raw_file(tmp_path / "f.safetensors", header, data))


def test_all_faults_are_listed_at_once(tmp_path: Path) -> None:
    header = {"a": entry(0, 8, dtype="F33"), "b": entry(0, 99), "c": entry(0, 8, (3,))}
    with pytest.raises(ModelFileError) as caught:
        SafetensorsFile(raw_file(tmp_path / "f.safetensors", header, bytes(8)))
    assert len(caught.value.faults) == 3
    assert str(caught.value).count("tensor '") == 3
    many = {f"t{i}": entry(0, 99) for i in range(2000)}
    with pytest.raises(ModelFileError, match=r"2000 faults: .* and 1950 more"):
        SafetensorsFile(raw_file(tmp_path / "f.safetensors", many, bytes(8)))


@pytest.mark.parametrize("content", [b"", b"\1", struct.pack("<Q", 1 << 60) + b"{}"])
def test_files_too_short_for_their_header(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"empty|too few|claims"):
        SafetensorsFile(tmp_path / "f.safetensors")


def test_a_tensor_past_four_gigabytes_of_a_sparse_file(tmp_path: Path) -> None:
    big = (5 << 30) // 4
    header = {"big": entry(0, 4 * big, (big,)), "end": entry(4 * big, 4 * big + 8)}
    path = raw_file(tmp_path / "f.safetensors", header)
    start = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(start + 4 * big)
        file.write(np.array([1.5, -2.5], "<f4").tobytes())
    began = time.monotonic()
    opened = SafetensorsFile(path)
    assert opened.tensor("end").decode().tolist() == [1.5, -2.5]
    assert opened.tensor("big").cut(0, big - 4, big).decode().tolist() == [0, 0, 0, 0]
    assert time.monotonic() - began < 10  # a watchdog: nothing was read through


def test_a_file_that_changes_while_it_is_mapped(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")
    files = FORMAT.open(path)
    held = files.weights["w"]
    (path / "new").write_bytes((path / "model.safetensors").read_bytes())
    os.replace(path / "new", path / "model.safetensors")  # replaced: what is mapped stays
    assert np.array_equal(files.weights.array("w"), X)
    assert np.array_equal(held.decode(), X)
    files = FORMAT.open(path)
    with (path / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\1\2\3\4")
    os.utime(path / "model.safetensors", ns=(1, 1))
    with pytest.raises(FileChanged, match="was changed while it was open"):
        files.weights["w"]


CANARY = "import pathlib; pathlib.Path(__file__).with_name('canary').touch()"


def test_pickles_are_refused_and_code_is_not_run(tmp_path: Path) -> None:
    import pickle

    class Evil:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "canary"),)

    pickled = tmp_path / "m"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    for path in (pickled, pickled / "pytorch_model.bin"):
        with pytest.raises(ModelFileError, match=r"pickle.*save_pretrained") as caught:
            open_model(path, {"safetensors": FORMAT})
        assert caught.value.remedy
    coded = folder(tmp_path / "c", auto_map={"AutoModelForCausalLM": "modeling_evil.Evil"})
    for name in ("modeling_evil.py", "configuration_evil.py", "__init__.py", "tokenizer.py"):
        (coded / name).write_text(CANARY)
    (coded / "tokenizer_config.json").write_text(
        '{"auto_map": {"AutoTokenizer": ["tokenizer.Evil", null]}}'
    )
    FORMAT.open(coded).weights.array("w")
    assert not list(tmp_path.rglob("canary"))


def test_chat_templates_in_all_their_places(tmp_path: Path) -> None:
    path = folder(tmp_path / "m")

    def templates(**config: Any) -> dict[str, str]:
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        files = FORMAT.open(path)
        assert files.chat_template == files.tokenizer["templates"].get("default")
        return dict(files.tokenizer["templates"])

    assert templates() == {}
    assert templates(chat_template="one") == {"default": "one"}
    named = [{"name": "default", "template": "one"}, {"name": "tool_use", "template": "two"}]
    assert templates(chat_template=named) == {"default": "one", "tool_use": "two"}
    for wrong in (3, [3], [{"name": "x"}], [{"name": 1, "template": "x"}]):
        with pytest.raises(ModelFileError, match="neither a text nor a list"):
            templates(chat_template=wrong)
    (path / "chat_template.json").write_text('{"chat_template": "three"}')
    assert templates(chat_template="one") == {"default": "three"}
    (path / "chat_template.jinja").write_text("four")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "rag.jinja").write_text("five")
    assert templates(chat_template=named) == {"default": "four", "tool_use": "two", "rag": "five"}
    files = FORMAT.open(path)
    FORMAT.save(files, tmp_path / "again")
    again = FORMAT.open(tmp_path / "again")
    assert again.tokenizer["templates"] == files.tokenizer["templates"]


ENCODED = [
    "bf16", "q4:g32:min", "q4:g32/64:min", "q8:row", "q4:g32:order", "nf4:g64", "mxfp4",
    "ternary:row", "gguf:q8_0", "f8e4m3:row", "i8:row", "gptq:q4:g32", "awq:q4:g32", "ct:q4:g32",
    "bnb:nf4:b64:nested256", "bnb:int8",
]  # fmt: skip


@pytest.mark.parametrize("name", ENCODED)
def test_any_encoding_is_written_and_read_again(tmp_path: Path, name: str) -> None:
    x = np.random.default_rng(1).standard_normal((32, 128)).astype(np.float32)
    weights = reencoded(
        DenseWeights({"a.weight": x, "norm.weight": x[0], "a.bias": x[0]}),
        lambda key, _: name if key == "a.weight" else None,
    )
    again = saved(tmp_path, weights, quantization_config={"quant_method": "none such"})
    assert set(again.weights) == {"a.weight", "norm.weight", "a.bias"}
    assert again.weights["a.weight"].encoding == weights["a.weight"].encoding
    assert np.array_equal(again.weights.array("a.weight"), weights.array("a.weight"))
    assert "quantization_config" not in again.config


NATIVE: dict[str, tuple[dict[str, Any], set[str]]] = {
    "gptq:q4:g32": (
        {"quant_method": "gptq", "bits": 4, "group_size": 32},
        {"qweight", "qzeros", "scales", "g_idx"},
    ),
    "gptq:q3:row:v2": (
        {"quant_method": "gptq", "bits": 3, "group_size": -1, "checkpoint_format": "gptq_v2"},
        {"qweight", "qzeros", "scales", "g_idx"},
    ),
    "awq:q4:g64": (
        {"quant_method": "awq", "bits": 4, "group_size": 64, "version": "gemm"},
        {"qweight", "qzeros", "scales"},
    ),
    "ct:q4:g32:zero": (
        {"quant_method": "compressed-tensors", "format": "pack-quantized",
         "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 32}}}},
        {"weight_packed", "weight_scale", "weight_shape", "weight_zero_point"},
    ),
    "bnb:nf4:b64:nested256": (
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"weight", "weight.absmax", "weight.quant_map", "weight.nested_absmax",
         "weight.nested_quant_map", "weight.quant_state.bitsandbytes__nf4"},
    ),
    "bnb:int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, {"weight", "SCB"}),
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_checkpoints_of_other_tools_keep_their_names(tmp_path: Path, name: str) -> None:
    config, parts = NATIVE[name]
    x = np.random.default_rng(1).standard_normal((64, 128)).astype(np.float32)
    weights = reencoded(
        DenseWeights({"q_proj.weight": x, "q_proj.bias": x[0]}),
        lambda key, _: name if key == "q_proj.weight" else None,
    )
    again = saved(tmp_path, weights, quantization_config=config)
    file = SafetensorsFile(tmp_path / "saved" / "model.safetensors")
    assert set(file.entries) == {f"q_proj.{part}" for part in parts} | {"q_proj.bias"}
    assert again.config["quantization_config"] == config
    assert set(again.weights) == {"q_proj.weight", "q_proj.bias"}
    assert again.weights["q_proj.weight"].encoding.name == name
    assert np.array_equal(again.weights.array("q_proj.weight"), weights.array("q_proj.weight"))


def test_gptq_is_read_as_its_own_code_reads_it(tmp_path: Path) -> None:
    """The formula of AutoGPTQ, number by number."""
    rng = np.random.default_rng(4)
    qweight = rng.integers(-(2**31), 2**31, (4, 16), dtype=np.int32)  # 32 inputs, 16 outputs
    qzeros = rng.integers(-(2**31), 2**31, (4, 2), dtype=np.int32)
    scales = rng.standard_normal((4, 16)).astype(np.float16)
    g_idx = rng.permutation(np.repeat(np.arange(4), 8)).astype(np.int32)
    tensors = {"l.qweight": qweight, "l.qzeros": qzeros, "l.scales": scales, "l.g_idx": g_idx}
    config = {"quant_method": "gptq", "bits": 4, "group_size": 8, "desc_act": True}
    files = FORMAT.open(folder(tmp_path / "m", tensors, quantization_config=config))
    found = files.weights["l.weight"]
    assert found.encoding.name == "gptq:q4:g8:order"
    wanted = np.zeros((16, 32), np.float32)
    for k in range(32):
        for n in range(16):
            code = int(qweight[k // 8, n]) >> (4 * (k % 8)) & 15
            zero = ((int(qzeros[g_idx[k], n // 8]) >> (4 * (n % 8)) & 15) + 1) & 15
            wanted[n, k] = np.float32(scales[g_idx[k], n]) * (code - zero)
    assert np.array_equal(found.decode(), wanted)


def test_awq_is_read_as_its_own_code_reads_it(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    qweight = rng.integers(-(2**31), 2**31, (16, 2), dtype=np.int32)  # 16 inputs, 16 outputs
    qzeros = rng.integers(-(2**31), 2**31, (2, 2), dtype=np.int32)
    scales = rng.standard_normal((2, 16)).astype(np.float16)
    config = {"quant_method": "awq", "bits": 4, "group_size": 8, "version": "gemm"}
    tensors = {"l.qweight": qweight, "l.qzeros": qzeros, "l.scales": scales}
    files = FORMAT.open(folder(tmp_path / "m", tensors, quantization_config=config))
    order = [0, 2, 4, 6, 1, 3, 5, 7]
    wanted = np.zeros((16, 16), np.float32)
    for k in range(16):
        for n in range(16):
            shift = 4 * order.index(n % 8)
            code = int(qweight[k, n // 8]) >> shift & 15
            zero = int(qzeros[k // 8, n // 8]) >> shift & 15
            wanted[n, k] = np.float32(scales[k // 8, n]) * (code - zero)
    assert np.array_equal(files.weights.array("l.weight"), wanted)


def test_compressed_tensors_of_every_kind(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    scheme = {"num_bits": 8, "group_size": None}
    config = {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": scheme}}}
    codes = rng.integers(-128, 128, (4, 8), dtype=np.int8)
    scale = rng.random((4, 1)).astype(np.float32)
    tensors = {
        "int.weight": codes,
        "int.weight_scale": scale,
        "int.input_scale": np.ones(1, np.float32),
        "flat.weight": codes,
        "flat.weight_scale": np.array([0.5], np.float32),
    }
    files = FORMAT.open(folder(tmp_path / "m", tensors, quantization_config=config))
    assert set(files.weights) == {"int.weight", "flat.weight"}
    assert np.array_equal(files.weights.array("int.weight"), codes.astype(np.float32) * scale)
    assert np.array_equal(files.weights.array("flat.weight"), codes.astype(np.float32) * 0.5)


def test_fp8_in_tiles(tmp_path: Path) -> None:
    codes = np.random.default_rng(7).integers(0, 0x7E, (5, 6), dtype=np.uint8)
    scale = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    path = folder(
        tmp_path / "m",
        quantization_config={"quant_method": "fp8", "weight_block_size": [2, 4]},
    )
    header = {
        "l.weight": entry(0, 30, (5, 6), "F8_E4M3"),
        "l.weight_scale_inv": entry(30, 54, (3, 2)),
    }
    raw_file(path / "model.safetensors", header, codes.tobytes() + scale.tobytes())
    found = FORMAT.open(path).weights["l.weight"]
    assert found.encoding.name == "f8e4m3:b2x4"
    wide = np.repeat(np.repeat(scale, 2, 0), 4, 1)[:5, :6]
    assert np.array_equal(found.decode(), float8_values("f8e4m3")[codes] * wide)


@pytest.mark.parametrize(
    ("config", "tensors", "says"),
    [
        ({"quant_method": "gtpq"}, {"w": X}, "did you mean 'gptq'"),
        ({"quant_method": "hqq"}, {"w": X}, "quantized by 'hqq', which is not read"),
        ({"quant_method": "gptq", "bits": 5}, {"l.qweight": X, "l.scales": X}, "5 bits"),
        ({"quant_method": "gptq", "bits": 4}, {"l.qweight": X, "l.scales": X[0]}, "not a matrix"),
        ({"quant_method": "gptq", "bits": 4}, {"l.qweight": X}, "'l.scales' is missing"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, {"l.qweight": X}, "'gemm'"),
        ({"quant_method": "bitsandbytes"}, {"l.weight": X, "l.SCB": X}, "part 'SCB' has shape"),
        ({"quant_method": "compressed-tensors"}, {"l.weight": X, "l.weight_scale": X}, "type f32"),
    ],
)  # fmt: skip
def test_quantized_checkpoints_that_do_not_fit(
    tmp_path: Path, config: dict[str, Any], tensors: dict[str, Array], says: str
) -> None:
    with pytest.raises(ModelFileError, match=says):
        FORMAT.open(folder(tmp_path / "m", tensors, quantization_config=config))


def test_saving_never_overwrites_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    class Breaks(DenseWeights):
        def find(self, name: str) -> Any:
            if name == "b":
                raise OSError(28, "No space left on device")
            return super().find(name)

    good = ModelFiles(tmp_path, "test", {}, DenseWeights({"a": X}))
    FORMAT.save(good, tmp_path / "m")
    with pytest.raises(LlamaError, match="already there"):
        FORMAT.save(good, tmp_path / "m")
    bad = ModelFiles(tmp_path, "test", {}, Breaks({"a": X, "b": X}))
    with pytest.raises(LlamaError, match="No space left on device"):
        FORMAT.save(bad, tmp_path / "n")
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_an_overlay_of_a_file_is_saved(tmp_path: Path) -> None:
    base = FORMAT.open(folder(tmp_path / "m", {"a": X, "b": X})).weights
    over = OverlayWeights(base, TensorWeights({"b": tensor(X * 2)}), hide=["a"])
    again = saved(tmp_path, over)
    assert list(again.weights) == ["b"]
    assert np.array_equal(again.weights.array("b"), X * 2)


def test_a_reference_is_resolved_or_says_what_is_near(tmp_path: Path) -> None:
    class Source:
        def path(self) -> Path:
            return tmp_path / "tiny"

    folder(tmp_path / "tiny")
    formats = {"safetensors": FORMAT}
    assert open_model(tmp_path / "tiny", formats).format == "safetensors"
    assert open_model("mini", formats, sources={"mini": Source}).path == tmp_path / "tiny"
    pulled = open_model("hf:o/n", formats, pulled=lambda _: tmp_path / "tiny")
    assert pulled.path == tmp_path / "tiny"
    with pytest.raises(UnknownModel, match="Did you mean 'mini'"):
        open_model("minni", formats, sources={"mini": Source})
    with pytest.raises(UnknownModel, match="Did you mean 'tiny'"):
        open_model(tmp_path / "tinny", formats)
    with pytest.raises(UnknownModel, match="llama pull hf:meta/llama"):
        open_model("meta/llama", formats)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UnknownModel, match="no format knows the folder"):
        open_model(tmp_path / "empty", formats)


@pytest.mark.parametrize("text", ["[]", "{", '{"a": NaNN}', "[" * 100_000, "\x00", '"x"'])
def test_configs_that_are_none(tmp_path: Path, text: str) -> None:
    path = folder(tmp_path / "m")
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        before = (path / name).read_text() if (path / name).exists() else None
        (path / name).write_text(text)
        with pytest.raises(ModelFileError, match=name.replace(".", r"\.")):
            FORMAT.open(path)
        (path / name).unlink() if before is None else (path / name).write_text(before)
