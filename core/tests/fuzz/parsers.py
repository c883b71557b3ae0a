"""Every parser of what strangers wrote, as a function of bytes: read it, then use what was read.

An input of two files has them one after the other, with a zero byte between.
"""

from __future__ import annotations

import json
import shutil
import struct
import tempfile
from atexit import register
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.model.architectures import create, model_type
from llama_core.model.chat import ChatTemplate
from llama_core.model.files.finite import numbers_at_fault
from llama_core.model.hub.choose import choose_files
from llama_core.model.hub.listing import read_listing
from llama_core.model.hub.reference import HubSettings, Reference
from llama_core.model.tokenizer import Tokenizer, build, open_tokenizer
from llama_core.model.tokenizer.sentencepiece import read_sentencepiece
from llama_core.model.weights import DenseWeights

CONFIGS = ["config.json", "generation_config.json", "tokenizer_config.json", "chat_template.json",
           "model.safetensors.index.json"]  # fmt: skip
CONFIG = {"model_type": "llama", "hidden_size": 8, "num_attention_heads": 2, "vocab_size": 5,
          "num_hidden_layers": 1, "intermediate_size": 8}  # fmt: skip
ONE_TENSOR = b'{"w": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}'
TEXT = "Hello wörld  日本 <s> 12345 \n" + "a" * 40 + "!"


@cache
def folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="llama-core-fuzz-"))
    register(shutil.rmtree, made, ignore_errors=True)
    return made


def _used(files: ModelFiles) -> None:
    """Whatever was accepted can be read, too."""
    for name in files.weights:
        one = files.weights[name]
        if one.size < 1 << 20:
            with np.errstate(all="ignore"):
                assert one.decode().shape == one.shape
    if sum(files.weights[name].size for name in files.weights) < 1 << 20:
        with np.errstate(all="ignore"):
            numbers_at_fault(files.weights)


def _spoken(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    tokenizer.decode([*ids, 0, 1, 2, 3, 10**6])
    tokenizer.encode(TEXT, parse_special=False)


def safetensors(data: bytes) -> None:
    config, _, file = data.partition(b"\0")
    place = folder() / "safetensors"
    place.mkdir(exist_ok=True)
    (place / "config.json").write_bytes(config)
    (place / "model.safetensors").write_bytes(file)
    _used(SafetensorsFormat().open(place))


def gguf(data: bytes) -> None:
    path = folder() / "m.gguf"
    path.write_bytes(data)
    files = GgufFormat().open(path)
    _used(files)
    if files.tokenizer.get("kind"):
        _spoken(open_tokenizer(files))


def configs(data: bytes) -> None:
    """One of the JSON files of a folder, by its name; the others are as they should be."""
    name, _, content = data.partition(b"\0")
    place = folder() / "configs"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "config.json").write_text(json.dumps(CONFIG))
    (place / "model.safetensors").write_bytes(struct.pack("<Q", len(ONE_TENSOR)) + ONE_TENSOR)
    chosen = name.decode("utf-8", "replace")
    (place / (chosen if chosen in CONFIGS else CONFIGS[0])).write_bytes(content)
    files = SafetensorsFormat().open(place)
    create(model_type(files.config)).build(files.config)


def tokenizer_json(data: bytes) -> None:
    _spoken(Tokenizer(build.from_json(data, Path("tokenizer.json"))))


def sentencepiece(data: bytes) -> None:
    _spoken(Tokenizer(build.from_vocabulary(read_sentencepiece(data, Path("tokenizer.model")))))


def gguf_vocabulary(data: bytes) -> None:
    """The metadata of a GGUF file, written as JSON: what a header may hold, and more."""
    try:
        metadata = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(metadata, dict):
        source = {"kind": "gguf", "metadata": metadata}
        _spoken(open_tokenizer(ModelFiles(Path(), "gguf", {}, DenseWeights({}), tokenizer=source)))


def chat_template(data: bytes) -> None:
    messages = [{"role": "user", "content": "hi"}]
    template = ChatTemplate(data.decode("utf-8", "replace"), {"bos_token": "<s>"})
    template.render(messages, max_seconds=0.2)


def hub(data: bytes) -> None:
    """The hub's answer on what a repository holds."""
    reference = Reference("org/tiny")
    settings = HubSettings("https://hub.invalid", folder())
    _, files = read_listing(data, reference, settings)
    names = [file.name for file in files]
    assert set(choose_files(names, reference)) <= set(names)
    for name in names:
        assert (folder() / name).resolve().is_relative_to(folder().resolve())


PARSERS: dict[str, Callable[[bytes], None]] = {
    one.__name__: one
    for one in (
        safetensors, gguf, configs, tokenizer_json, sentencepiece, gguf_vocabulary, chat_template,
        hub,
    )
}  # fmt: skip
