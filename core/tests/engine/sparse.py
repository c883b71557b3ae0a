"""Models of any size on a small disk: the files have the length, and nothing is written in them."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from llama_core.model import architectures
from llama_core.model.architectures.blocks import LLAMA_NAMES


def sparse_model(folder: Path, beside: Path, **config: Any) -> Path:
    """A llama in bf16; `beside` is the folder whose tokenizer and config it takes."""
    folder.mkdir()
    for file in beside.glob("tokenizer*"):
        (folder / file.name).write_bytes(file.read_bytes())
    settings = {**json.loads((beside / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(settings))
    graph = architectures.create("llama").build(settings)
    old = {new: name for name, new in LLAMA_NAMES.items()}
    header, at = {}, 0
    for name, shape in graph.shapes.items():
        path = ".".join(old.get(part, part) for part in name.split("."))
        stored = path if path.startswith("lm_head") else f"model.{path}"
        size = 2
        for length in shape:
            size *= length
        header[stored] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        out.truncate(8 + len(text) + at)
    return folder
