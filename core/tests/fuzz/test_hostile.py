"""What an attacker would write by hand: files, answers and links that a fuzzer does not guess."""

from __future__ import annotations

import json
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.errors import ConfigError
from llama_core.model.architectures import create
from llama_core.model.chat import ChatError, ChatTemplate
from llama_core.model.files import ModelFileError
from llama_core.model.files.gguf_header import GgufFile
from llama_core.model.files.mapped import MappedFile
from llama_core.model.hub import HubError, HubSettings, Reference
from llama_core.model.hub.listing import read_listing
from llama_core.model.tokenizer import TokenizerError, build
from llama_core.model.tokenizer.patterns import explodes
from llama_core.model.tokenizer.pretokenizers import RULES
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece

from .bounds import MEMORY_BYTES
from .inputs_of_files import text, u32
from .inputs_of_words import SMALLEST
from .parsers import CONFIG, ONE_TENSOR

SAFE = SafetensorsFormat()


def folder(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps(CONFIG))
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(ONE_TENSOR)) + ONE_TENSOR)
    return path


def memory_of(call: Callable[[], object]) -> int:
    import tracemalloc

    tracemalloc.start()
    try:
        call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# Links and pipes ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chat_template.jinja", "additional_chat_templates/tool.jinja"])
def test_a_template_that_links_to_a_private_file_is_refused(tmp_path: Path, name: str) -> None:
    """What a template says ends in prompts, and who may ask may have it repeated."""
    private = tmp_path / "credentials"
    private.write_text("a secret")
    model = folder(tmp_path / "model")
    (model / name).parent.mkdir(exist_ok=True)
    (model / name).symlink_to(private)
    with pytest.raises(ModelFileError, match="a link to .*outside of the model's folder") as caught:
        SAFE.open(model)
    assert "a secret" not in str(caught.value)
    (model / name).unlink()
    (model / "inside").write_text("{{ messages }}")
    (model / name).symlink_to(model / "inside")
    assert "{{ messages }}" in SAFE.open(model).tokenizer["templates"].values()


def test_the_cache_of_the_hub_keeps_templates_as_links(tmp_path: Path) -> None:
    repo = tmp_path / "models--org--tiny"
    model = folder(repo / "snapshots" / ("a" * 40))
    (repo / "blobs").mkdir()
    (repo / "blobs" / "b1").write_text("{{ messages }}")
    (model / "chat_template.jinja").symlink_to("../../blobs/b1")
    assert SAFE.open(model).chat_template == "{{ messages }}"
    (model / "chat_template.jinja").unlink()
    (model / "chat_template.jinja").symlink_to("../../../secret")
    (tmp_path / "secret").write_text("a secret")
    with pytest.raises(ModelFileError, match="outside"):
        SAFE.open(model)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    (model / "model.safetensors").unlink()
    for name in ("model.safetensors", "model-00001-of-00001.safetensors", "m.gguf"):
        os.mkfifo(model / name)
        with pytest.raises(ModelFileError):
            SAFE.open(model)
        with pytest.raises(ModelFileError, match="not a regular file"):
            MappedFile(model / name)
        assert not GgufFormat().detects(model / name)
        (model / name).unlink()


# Sizes -------------------------------------------------------------------------------------------


def gguf(
    path: Path, keys: bytes = b"", num_keys: int = 0, infos: bytes = b"", num: int = 0
) -> Path:
    out = b"GGUF" + struct.pack("<IQQ", 3, num, num_keys) + keys + infos
    path.write_bytes(out + bytes(-len(out) % 32))
    return path


MANY = 400_000
CROWDS: dict[str, Callable[[Path], Path]] = {
    "keys": lambda path: gguf(
        path, b"".join(text(f"{i:x}") + struct.pack("<IB", 0, 9) for i in range(MANY)), MANY
    ),
    "tensors": lambda path: gguf(
        path, infos=b"".join(text(f"{i:x}") + struct.pack("<IIQ", 0, 0, 0) for i in range(MANY)),
        num=MANY,
    ),
    "arrays in arrays": lambda path: gguf(
        path, text("a") + struct.pack("<IIQ", 9, 9, MANY) + struct.pack("<IQ", 0, 0) * MANY, 1
    ),
    "texts": lambda path: gguf(
        path, text("a") + struct.pack("<IIQ", 9, 8, 999_999) + text("\u0100") * 999_999, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", CROWDS)
def test_a_small_gguf_file_does_not_become_a_large_one_in_memory(tmp_path: Path, what: str) -> None:
    path = CROWDS[what](tmp_path / "m.gguf")

    def read() -> None:
        with pytest.raises(ModelFileError, match="more .*than such a file ever holds"):
            GgufFile(path)

    assert memory_of(read) < path.stat().st_size + MEMORY_BYTES


def test_a_small_header_does_not_become_a_large_one_in_memory(tmp_path: Path) -> None:
    for inner in ('{"dtype":{}}', '"x"', '{"dtype":"I8","shape":[0],"data_offsets":[0,0]}'):
        head = ("{" + ",".join(f'"{i:x}":{inner}' for i in range(MANY)) + "}").encode()
        model = folder(tmp_path / f"m{len(inner)}")
        (model / "model.safetensors").write_bytes(struct.pack("<Q", len(head)) + head)

        def read(model: Path = model) -> None:
            with pytest.raises(ModelFileError, match="more than such a file ever holds"):
                SAFE.open(model)

        assert memory_of(read) < len(head) + MEMORY_BYTES


def test_a_sentencepiece_model_of_a_million_nothings() -> None:
    with pytest.raises(TokenizerError, match="more than 300000 pieces"):
        read_sentencepiece(b"\x0a\x00" * 1_000_000, Path("tokenizer.model"))


@pytest.mark.parametrize("key", ["vocab_size", "num_hidden_layers", "num_attention_heads"])
@pytest.mark.parametrize("size", [10**9, 1 << 31, 10**400, 0, -1, 2.5, "9" * 400, [1], None])
def test_configs_of_sizes_that_no_model_has(key: str, size: Any) -> None:
    began = time.monotonic()
    with pytest.raises(ConfigError, match=key) as caught:
        create("llama").build({**CONFIG, key: size})
    assert len(str(caught.value)) < 2000
    assert time.monotonic() - began < 10  # a watchdog: nothing was built


# GGUF's numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("alignment", [0, 3, 1 << 40])
def test_alignments(tmp_path: Path, alignment: int) -> None:
    value = struct.pack("<IQ", 10, alignment)
    path = gguf(tmp_path / "m.gguf", text("general.alignment") + value, 1)
    with pytest.raises(ModelFileError, match=f"is {alignment}, not a power of two"):
        GgufFile(path)


def info(name: str, shape: tuple[int, ...], kind: int = 0) -> bytes:
    axes = struct.pack(f"<{len(shape)}Q", *shape)
    return text(name) + struct.pack("<I", len(shape)) + axes + struct.pack("<IQ", kind, 0)


@pytest.mark.parametrize(
    ("shape", "kind", "says"),
    [
        ((1,) * 5, 0, "5 axes"),
        ((1,) * 4_000, 0, "4000 axes"),
        ((0, 1 << 62), 0, "cannot have the shape"),
        ((33, 1), 8, "no rows of whole"),
        ((), 8, "no rows of whole"),
        ((1,), 39, "MXFP4, which is not read"),
        ((1,), 1 << 31, "number 2147483648, which is not read"),
    ],
)
def test_shapes_and_types(tmp_path: Path, shape: tuple[int, ...], kind: int, says: str) -> None:
    with pytest.raises(ModelFileError, match=says):
        GgufFile(gguf(tmp_path / "m.gguf", infos=info("a", shape, kind) + bytes(64), num=1))


def test_tensors_of_no_numbers_are_tensors(tmp_path: Path) -> None:
    opened = GgufFile(gguf(tmp_path / "m.gguf", infos=info("a", (32, 0), 8), num=1))
    assert opened.tensor("a").decode().shape == (0, 32)


def test_values_that_are_lists_where_numbers_belong(tmp_path: Path) -> None:
    """Arrays in arrays do not even compare, and a list may be too long to be shown."""
    nested = struct.pack("<IIQ", 9, 9, 2) + 2 * (struct.pack("<IQ", 4, 2) + bytes(8))
    long = struct.pack("<IIQ", 9, 8, 200_000) + text("x") * 200_000
    keys = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    keys += text("llama.embedding_length") + nested + text("llama.rope.scaling.type") + long
    keys += text("llama.block_count") + u32(1) + text("llama.rope.scale_linear") + long
    keys += text("general.alignment") + long
    path = tmp_path / "m.gguf"
    with pytest.raises(ModelFileError, match="'general.alignment' is list"):
        GgufFormat().open(gguf(path, keys, 6))
    keys = keys[: -len(text("general.alignment") + long)]
    with pytest.raises(ModelFileError, match="differs between layers") as caught:
        GgufFormat().open(gguf(path, keys, 5))
    assert len(str(caught.value)) < 1000


# Tokenizers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pattern",
    ["(a+)+$", "(?:a*)*", "(a|a)*c", "(?i:a|b){9,}", "(a?){30}a{30}", "((x+)y)+", "(a+)?*",
     "((a{1,999}){1,999}){1,999}"],
)  # fmt: skip
def test_patterns_whose_time_explodes_are_refused(pattern: str) -> None:
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    state = {**SMALLEST, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split]}}
    with pytest.raises(TokenizerError, match="can explode"):
        build.from_json(json.dumps(state).encode(), Path("tokenizer.json"))
    replace = {"type": "Replace", "pattern": {"Regex": pattern}, "content": ""}
    state = {**SMALLEST, "normalizer": replace}
    with pytest.raises(TokenizerError, match="can explode"):
        build.from_json(json.dumps(state).encode(), Path("tokenizer.json"))


def test_patterns_in_use_are_not() -> None:
    patterns = [pattern for rule in RULES.values() for pattern, _ in rule.splits]
    patterns += [r"(?=(\d{3})+(?!\d))", r" ?[^(\s|[.,!?])]+", r"[(a+)]+", r"\(a+\)+", "(?:abc)+"]
    assert not [pattern for pattern in patterns if explodes(pattern)]


@pytest.mark.parametrize("index", [10**7, 1 << 31, 1 << 63, -1, 1.5])
def test_ids_that_no_vocabulary_has(index: Any) -> None:
    for place in (("model", "vocab", "a"), ("added_tokens", 0, "id")):
        state = json.loads(json.dumps(SMALLEST))
        inner = state
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = index
        with pytest.raises(TokenizerError):
            build.from_json(json.dumps(state).encode(), Path("tokenizer.json"))


# Chat templates ----------------------------------------------------------------------------------


def test_what_a_template_raises_is_its_own() -> None:
    with pytest.raises(ChatError, match="name 'inf' is not defined"):
        ChatTemplate("{{ 1e999 }}").render([])


@pytest.mark.parametrize(
    "source",
    ["{{ range(300) | list | tojson(separators=['x' * 4000000, ':']) }}",
     "{% set a = range(40000) | list %}"
     "{{ " + "[" * 60 + "a" + "]" * 60 + " | tojson(indent=16) }}"],
)  # fmt: skip
def test_json_is_not_put_apart_by_more_than_it_holds(source: str) -> None:
    template = ChatTemplate(source)

    def render() -> None:
        with pytest.raises(ChatError, match="wanted .* characters|computed for|made more"):
            template.render([])

    assert memory_of(render) < MEMORY_BYTES


# The hub's answers -------------------------------------------------------------------------------

RIGHT = {"sha": "a" * 40, "siblings": [{"rfilename": "m.gguf", "size": 9, "blobId": "b" * 40}]}


@pytest.mark.parametrize(
    ("where", "value", "says"),
    [
        ("size", "nine", "no valid size and digest for 'm.gguf'"),
        ("size", float("inf"), "no valid size"),
        ("size", 10**400, "no valid size"),
        ("size", -1, "no valid size"),
        ("size", None, "no valid size"),
        ("blobId", ["b" * 40], "no valid size and digest"),
        ("lfs", {"sha256": "../../x"}, "no valid size and digest"),
        ("rfilename", 7, "names that are not safe"),
        ("rfilename", "../" * 200, "names that are not safe"),
    ],
)
def test_answers_that_lie_about_a_file(where: str, value: Any, says: str) -> None:
    answer = json.loads(json.dumps(RIGHT))
    answer["siblings"][0][where] = value
    with pytest.raises(HubError, match=says) as caught:
        read_listing(json.dumps(answer).encode(), Reference("org/tiny"), _settings())
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b'{"a":' * 100_000, "nested too deeply"),
        (b"<html>sign in to the network</html>", "not JSON"),
        (json.dumps({**RIGHT, "siblings": 7}).encode(), "lists no files"),
        (json.dumps({**RIGHT, "siblings": [7]}).encode(), "lists no files"),
        (b"[" + b"[]," * 700_000 + b"0]", "more than such a file ever holds"),
    ],
)
def test_answers_that_are_none(answer: bytes, says: str) -> None:
    with pytest.raises(HubError, match=says):
        read_listing(answer, Reference("org/tiny"), _settings())


def _settings() -> HubSettings:
    return HubSettings("https://hub.invalid", Path("cache"))


def test_every_fault_of_a_model_is_in_one_error(tmp_path: Path) -> None:
    """Missing tensors and wrong shapes of a whole model, by name and with both shapes."""
    from llama_core.model.weights import DenseWeights

    graph = create("llama").build(CONFIG)
    wrong = {name: np.zeros((3, 3), np.float32) for name in [*graph.shapes][1:3]}
    problems = graph.weight_problems(DenseWeights(wrong))
    assert len(problems) == len(graph.shapes)
    assert sum("is missing" in one for one in problems) == len(graph.shapes) - 2
    assert sum("is [3, 3] and must be" in one for one in problems) == 2


def test_every_flip_of_a_header_is_refused_by_the_files_name_or_read(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    path = model / "model.safetensors"
    whole = path.read_bytes()
    refusals = []
    for at in range(len(whole)):
        for bit in (0, 4, 7):
            flipped = bytearray(whole)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                SAFE.open(model)
            except ModelFileError as error:
                refusals.append(str(error))
    assert len(refusals) > 2 * len(whole)
    assert all("model.safetensors" in one for one in refusals)
