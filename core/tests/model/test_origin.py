"""Origins: equal ones are equal numbers, and whatever changes the numbers changes the origin."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import Format, ModelFiles
from llama_core.model.encodings import parse_encoding
from llama_core.model.rewrites.tensor import Cut, CutWeights
from llama_core.model.weights import (
    Choice,
    DenseWeights,
    MappedWeights,
    OverlayWeights,
    RenamedWeights,
    Weights,
    reencoded,
)
from llama_core.testing import tiny

Q = "model.layers.0.self_attn.q_proj.weight"
UP = "model.layers.0.mlp.up_proj.weight"


@pytest.fixture(params=[SafetensorsFormat, GgufFormat])
def kind(request: pytest.FixtureRequest) -> Format:
    found: Format = request.param()
    return found


@pytest.fixture
def saved(kind: Format, tmp_path: Path) -> Path:
    path = tmp_path / "model"
    files = ModelFiles(path, "safetensors", dict(tiny.CONFIG), tiny.checkpoint())
    kind.save(files, path)
    return path


def _always(encoding: str) -> Choice:
    return lambda *_: encoding


def opened(kind: Format, path: Path) -> Weights:
    return kind.open(path).weights


def test_a_file_tells_where_each_tensor_comes_from(kind: Format, saved: Path) -> None:
    first, again = opened(kind, saved), opened(kind, saved)
    origins = [first.origin(name) for name in first]
    assert None not in origins
    assert len(set(origins)) == len(origins)
    assert origins == [again.origin(name) for name in again]
    assert first.origin("no such tensor") is None


def test_writing_into_a_file_changes_its_origins_even_under_the_same_time(
    kind: Format, saved: Path
) -> None:
    before = opened(kind, saved).origin(UP)
    assert before is not None
    file = Path(before.files[0].path)
    was = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    os.utime(file, ns=(was.st_atime_ns, was.st_mtime_ns))
    after = opened(kind, saved).origin(UP)
    assert after is not None
    assert after.files[0]._replace(changed_ns=0) == before.files[0]._replace(changed_ns=0)
    assert after != before


def test_views_pass_origins_on_and_tell_what_they_change(kind: Format, saved: Path) -> None:
    base = opened(kind, saved)
    plain = base.origin(UP)
    assert plain is not None
    assert RenamedWeights(base, str.upper).origin(UP.upper()) == plain
    assert RenamedWeights(base, str.upper).origin(UP) is None
    over = OverlayWeights(base, DenseWeights({Q: np.zeros((32, 32), np.float32)}))
    assert (over.origin(UP), over.origin(Q)) == (plain, None)
    halves = [
        CutWeights(base, {"a": Cut(UP, 0, *part)}).origin("a") for part in ((0, 32), (32, 64))
    ]
    coded = [reencoded(base, _always(name)).origin(UP) for name in ("q8:g32", "q4:g32")]
    assert len({plain, *halves, *coded}) == 5
    assert None not in (*halves, *coded)
    left = reencoded(base, lambda name, _: "q8:g32" if name == Q else None)
    assert left.origin(UP) == plain
    assert MappedWeights(base, lambda _, one: replace(one)).origin(UP) is None


def test_what_only_is_in_memory_has_no_origin() -> None:
    arrays = DenseWeights({"a": np.zeros((4, 32), np.float32)})
    assert arrays.origin("a") is None
    assert reencoded(arrays, lambda *_: parse_encoding("q8:g32")).origin("a") is None
