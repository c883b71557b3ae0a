"""Who is measured: ours and the peers by family of widths, and the process each of them runs in."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import cpu_models as models

CONTEXT = 8192 + 64  # tokens a side can hold
PACKED = models.CACHE / "packed"  # what our plugin keeps of models
PATIENCE = 900  # seconds that an answer may take


@dataclass(frozen=True, slots=True)
class Model:
    """One program on one file of a model."""

    name: str  # as it stands in metrics or among peers: "q4", "llama.cpp Q4_0"
    make: Callable[[str], Path | str]  # for a shape: its file or folder, or why there is none
    side: str = "ours"
    act: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    quick: bool = False  # also where there is little time

    def path(self, shape: str) -> Path | str:
        """What `make` gives; why it could not, too, where the disk is full."""
        try:
            return self.make(shape)
        except OSError as error:
            return f"{type(error).__name__}: {error}"

    @property
    def is_ours(self) -> bool:
        return self.side == "ours"


@dataclass(frozen=True, slots=True)
class Family:
    """What is compared with each other."""

    ours: Sequence[Model]
    peers: Sequence[Model]
    exact: bool = False  # activations are floats, so the limit is that of floats


def _ours(name: str, encoding: str, act: str | None = "auto", quick: bool = False) -> Model:
    def make(shape: str) -> Path | str:
        return models.ours(shape, encoding)

    return Model(name, make, act=act, quick=quick)


def _file(name: str, kind: str) -> Model:
    return Model(name, partial(models.gguf, kind=kind), act="auto")


def _peer(
    side: str, make: Any, kind: str, label: str = "", quick: bool = False, **more: str
) -> Model:
    return Model(f"{side} {label or kind}", partial(make, kind=kind), side, None, more, quick)


llama_cpp = partial(_peer, "llama.cpp", models.gguf)
onnx = partial(_peer, "onnxruntime-genai", models.onnx)
openvino = partial(_peer, "openvino-genai", models.openvino)
ctranslate2 = partial(_peer, "ctranslate2", models.ctranslate2)
transformers = partial(_peer, "transformers", lambda shape, kind: models.ours(shape, kind))
IN_128 = {"DYNAMIC_QUANTIZATION_GROUP_SIZE": "128"}

FAMILIES: Mapping[str, Family] = {
    "4bit": Family(
        (
            _ours("q4", "q4:g32", quick=True),
            _ours("q4.act256", "q4:g32", "q8:256"),
            _ours("q4.g128", "q4:g128", quick=True),
            _file("q4_0", "Q4_0"),
            _file("q4_k", "Q4_K_M"),
        ),
        (
            llama_cpp("Q4_0", quick=True),
            llama_cpp("Q4_K_M"),
            onnx("int4-g32"),
            onnx("int4-g128", quick=True),
            openvino("int4"),
            openvino("int4", "int4 dynamic group 128", quick=True, **IN_128),
        ),
    ),
    "8bit": Family(
        (
            _ours("q8", "q8:g32", quick=True),
            _ours("q8.g128", "q8:g128", quick=True),
            _ours("q8.act7", "q8:g32", "q7:32", quick=True),
            _ours("q8.g128.act7", "q8:g128", "q7:128", quick=True),
            _file("q8_0", "Q8_0"),
        ),
        (
            llama_cpp("Q8_0", quick=True),
            onnx("int8-g128"),
            openvino("int8"),
            openvino("int8", "int8 dynamic group 128", quick=True, **IN_128),
            ctranslate2("int8", quick=True),
        ),
    ),
    "2bit": Family((_ours("q2", "q2:g128"),), (llama_cpp("Q2_K"),)),
    "1bit": Family((_ours("q1", "q1:g128"),), (llama_cpp("TQ1_0"),)),
    "16bit": Family(
        (_ours("bf16", "bf16", None), _ours("f16", "f16", None)),
        (llama_cpp("BF16"), transformers("bf16")),
        exact=True,
    ),
}
STEP = Family(
    (_ours("f32", "f32", None, True), _ours("bf16", "bf16", None, True)),
    (llama_cpp("BF16", quick=True), ctranslate2("int8", quick=True)),
    exact=True,
)

ENVIRONMENTS = {
    "llama.cpp": "parity-llama-cpp",
    "onnxruntime-genai": "cpu-onnxruntime",
    "openvino-genai": "cpu-openvino",
    "ctranslate2": "cpu-ctranslate2",
    "transformers": "cpu-torch",
}


class Child:
    """A side in a process of its own, which stands still while others are measured."""

    def __init__(
        self, model: Model, shape: str, threads: int, context: int = CONTEXT, cold: bool = False
    ) -> None:
        python: Path | str = sys.executable
        if not model.is_ours:
            python = models.python(ENVIRONMENTS[model.side])
            if not isinstance(python, Path):
                raise ValueError(f"not installed: {python}")
        path = model.path(shape)
        if not isinstance(path, Path):
            raise ValueError(f"no file: {path}")
        if cold:
            forget(path)
            if model.is_ours:  # a peer's cold start leaves ours warm
                forget(PACKED)
        c = models.SHAPES[shape]
        job = {
            "side": model.side, "path": str(path), "act": model.act, "threads": threads,
            "context": context, "vocabulary": c["vocab_size"], "properties": dict(model.properties),
            "kv": [c["num_hidden_layers"], c["num_key_value_heads"], c["head_dim"]],
        }  # fmt: skip
        module = "cpu_ours" if model.is_ours else "cpu_peers"
        code = f"import {module} as sides, cpu_child; cpu_child.serve(sides.SIDES)"
        began = time.perf_counter()
        self.model = model
        env = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        env["LLAMA_CPU_CACHE"] = str(PACKED)
        env.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
        self.process = subprocess.Popen(
            [str(python), "-c", code, json.dumps(job)], cwd=models.HERE, env=env,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            self.load_seconds = float(self._answer(PATIENCE)["seconds"])
        except BaseException:
            self.close()
            raise
        self.start_seconds = time.perf_counter() - began  # the interpreter and its imports too
        self._stop()

    def ask(self, patience: float = PATIENCE, **asked: Any) -> dict[str, Any]:
        """One answer, or a ValueError that says why there is none."""
        os.kill(self.process.pid, signal.SIGCONT)
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(asked).encode() + b"\n")
        self.process.stdin.flush()
        found = self._answer(patience)
        self._stop()
        return found

    def _answer(self, patience: float) -> dict[str, Any]:
        out = self.process.stdout
        assert out is not None
        if not select.select([out], [], [], patience)[0]:
            raise ValueError(f"no answer within {patience:.0f} s")
        line = out.readline()
        if not line:
            raise ValueError(f"its process ended with status {self.process.wait()}")
        found: dict[str, Any] = json.loads(line)
        if "error" in found:
            raise ValueError(found["error"])
        return found

    def _stop(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)  # no thread of it spins beside the next

    def close(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def forget(path: Path) -> None:
    """Ask the system to drop what it holds of these files in memory."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    for each in files:
        handle = os.open(each, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
