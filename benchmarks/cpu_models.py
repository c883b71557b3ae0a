"""The models that the CPU benchmark runs: generated once, then in each program's own files.

Weights are random in the shape of real models. The matrices of a layer are those of the first one
with their rows turned round, so that no two layers share their bytes and a shape is made in
seconds. Every encoding and every peer's file comes from the same folder in bfloat16.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from report import environment

from llama_core.model.generated import random_array
from llama_core.model.weights import Tensor, Weights, tensor

if TYPE_CHECKING:
    from llama_core.contracts.format import ModelFiles

HERE = Path(__file__).parent
CACHE = HERE / ".cache"
TINY = HERE.parent / "tests" / "fixtures" / "tiny"
CONTEXT = 16384
TURN = 16  # rows from layer to layer
MAKES_NONE = False  # neither environments nor files: what is not there is missing
MISSING = "not there, and --as-is makes none"


def _config(
    hidden: int, between: int, layers: int, heads: int, kv: int, words: int
) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": between,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv,
        "head_dim": hidden // heads,
        "vocab_size": words,
        "max_position_embeddings": CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0 if words > 100_000 else 10000.0,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "torch_dtype": "bfloat16",
    }


SHAPES: Mapping[str, Mapping[str, Any]] = {
    "260k": _config(64, 172, 5, 8, 4, 512),
    "110m": _config(768, 2048, 12, 12, 12, 32000),
    "1b": _config(2048, 5632, 22, 32, 4, 32000),
    "8b": _config(4096, 14336, 8, 32, 8, 128256),  # 8 of 32 layers
}


# ---------------------------------------------------------------- numbers


class Turned(Weights):
    """A shape's matrices in one encoding; each layer has the first one's, turned by some rows."""

    def __init__(self, shape: str, encoding: str) -> None:
        self.encoding = encoding
        self._shapes = dict(_shapes(SHAPES[shape]))
        self._first = cache(self._make)

    def names(self) -> Iterable[str]:
        return self._shapes

    def _make(self, name: str) -> Tensor:
        seed = sum(name.encode())
        x = random_array(_short(name), self._shapes[name], np.random.default_rng(seed))
        return tensor(x).encoded("bf16" if x.ndim < 2 else self.encoding)

    def find(self, name: str) -> Tensor | None:
        if name not in self._shapes:
            return None
        parts = name.split(".")
        if parts[1] != "layers":
            return self._make(name)  # not kept: the largest of all
        layer, parts[2] = int(parts[2]), "0"
        first = self._first(".".join(parts))
        if len(first.shape) < 2:
            return first
        turned = {role: np.roll(part, TURN * layer, 0) for role, part in first.parts.items()}
        return Tensor(first.shape, first.encoding, turned)


def _short(name: str) -> str:
    return name.removeprefix("model.")


def _shapes(c: Mapping[str, Any]) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Names as Hugging Face writes them."""
    hidden, between, words = c["hidden_size"], c["intermediate_size"], c["vocab_size"]
    kv = c["num_key_value_heads"] * c["head_dim"]
    yield "model.embed_tokens.weight", (words, hidden)
    for layer in range(c["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        for name, rows, columns in (
            ("self_attn.q_proj", hidden, hidden),
            ("self_attn.k_proj", kv, hidden),
            ("self_attn.v_proj", kv, hidden),
            ("self_attn.o_proj", hidden, hidden),
            ("mlp.gate_proj", between, hidden),
            ("mlp.up_proj", between, hidden),
            ("mlp.down_proj", hidden, between),
        ):
            yield f"{at}{name}.weight", (rows, columns)
        yield f"{at}input_layernorm.weight", (hidden,)
        yield f"{at}post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (words, hidden)


# ---------------------------------------------------------------- files


def ours(shape: str, encoding: str) -> Path | str:
    """A folder with every matrix in one of our encodings; `bf16` is what peers convert."""
    from llama_core.contracts.format import ModelFiles
    from llama_core.model.files.save_folder import save_folder

    path = CACHE / shape / encoding.replace(":", "-")
    if not (path / "config.json").is_file():
        if MAKES_NONE:
            return MISSING
        print(f"making {path.name} of {shape}", file=sys.stderr, flush=True)
        files = ModelFiles(
            path, "safetensors", SHAPES[shape], Turned(shape, encoding), tokenizer=_tokenizer(shape)
        )
        save_folder(files, path)
    return path


def _tokenizer(shape: str) -> dict[str, Any]:
    """The fixture's, filled up with words that no text has, since peers count them."""
    path = CACHE / shape / "tokenizer.json"
    if not path.is_file():
        made = json.loads((TINY / "tokenizer.json").read_text("utf-8"))
        known = made["model"]["vocab"]
        for index in range(len(known), SHAPES[shape]["vocab_size"]):
            known[f"<filler{index}>"] = index
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made), "utf-8")
    config = json.loads((TINY / "tokenizer_config.json").read_text("utf-8"))
    return {"kind": "huggingface", "path": path, "config": config}


def made_by(shape: str, name: str, make: Callable[[Path, Path], str | None]) -> Path | str:
    """A peer's model, made once beside its place; or why it could not be made, kept as well."""
    path, why = CACHE / shape / name, CACHE / shape / f"{name}.failed"
    if path.exists():
        return path
    if why.exists():
        return why.read_text("utf-8")
    if MAKES_NONE:
        return MISSING
    source = ours(shape, "bf16")
    assert isinstance(source, Path)  # since what is missing is made
    print(f"making {name} of {shape}", file=sys.stderr, flush=True)
    part = path.with_name(f".{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.unlink(missing_ok=True)
    problem = make(source, part)
    if problem is None:
        part.rename(path)
        return path
    why.write_text(problem, "utf-8")
    return problem


def run(command: list[str], **more: str) -> str | None:
    """Nothing, or the last line of what went wrong."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **more}
    ran = subprocess.run(command, cwd=HERE, capture_output=True, text=True, env=env)
    if ran.returncode == 0:
        return None
    said = [line for line in (ran.stderr or ran.stdout).splitlines() if line.strip()]
    return (said or ["no message"])[-1].strip()[:300]


ENVIRONMENTS: Mapping[str, tuple[str, ...]] = {
    "parity-llama-cpp": ("llama-cpp-python",),
    "cpu-onnxruntime": ("onnxruntime-genai", "onnxruntime"),
    "cpu-openvino": ("openvino-genai", "openvino-tokenizers", "optimum-intel[openvino]"),
    "cpu-ctranslate2": ("ctranslate2",),
    # The model builder of ONNX Runtime GenAI wants the newest transformers too.
    "cpu-torch": (
        "torch==2.13.0", "transformers==5.23.0", "onnxruntime-genai", "onnxruntime", "onnx",
        "onnx-ir",
    ),
    # CTranslate2's converter wants an older one.
    "cpu-convert": ("torch==2.13.0", "transformers<5", "ctranslate2"),
}  # fmt: skip


@cache
def python(name: str) -> Path | str:
    """The Python of one of the environments, or why there is none."""
    its = HERE / ".envs" / name / "bin" / "python"
    if MAKES_NONE:
        return its if its.is_file() else MISSING
    return environment(name, *ENVIRONMENTS[name])


def gguf(shape: str, kind: str) -> Path | str:
    """Written by core in bfloat16, then quantized by llama.cpp itself."""

    def make(source: Path, part: Path) -> str | None:
        if kind == "BF16":
            from llama_core.builtin.gguf_format import GgufFormat

            GgufFormat().save(opened(source), part)
            return None
        its, base = python("parity-llama-cpp"), gguf(shape, "BF16")
        if isinstance(its, str) or isinstance(base, str):
            return str(its if isinstance(its, str) else base)
        code = "import sys, parity_llama_cpp as p; p.quantize(*sys.argv[1:])"
        return run([str(its), "-c", code, str(base), str(part), kind])

    return made_by(shape, f"{kind}.gguf", make)


def opened(path: Path) -> ModelFiles:
    from llama_core.builtin.safetensors_format import SafetensorsFormat

    return SafetensorsFormat().open(path)


def onnx(shape: str, kind: str) -> Path | str:
    """By the model builder of ONNX Runtime GenAI: `int4-g32`, `int4-g128`, `int8-g128`."""

    def make(source: Path, part: Path) -> str | None:
        its = python("cpu-torch")
        if isinstance(its, str):
            return its
        precision, _, group = kind.partition("-g")
        options = [f"block_size={group}", "accuracy_level=4"]  # activations in 8 bits
        command = [str(its), "-m", "onnxruntime_genai.models.builder", "-m", str(source)]
        command += ["-i", str(source), "-o", str(part), "-p", precision, "-e", "cpu"]
        return run([*command, "-c", str(CACHE / "onnx"), "--extra_options", *options])

    return made_by(shape, f"onnx-{kind}", make)


def openvino(shape: str, kind: str) -> Path | str:
    """By optimum-intel: `int4` in groups of 128, `int8`."""

    def make(source: Path, part: Path) -> str | None:
        its = python("cpu-openvino")
        if isinstance(its, str):
            return its
        groups = ["--group-size", "128", "--ratio", "1.0", "--sym"] if kind == "int4" else []
        command = [str(its.parent / "optimum-cli"), "export", "openvino", "--model", str(source)]
        command += ["--task", "text-generation-with-past", "--weight-format", kind, *groups]
        return run([*command, str(part)])

    return made_by(shape, f"openvino-{kind}", make)


def ctranslate2(shape: str, kind: str) -> Path | str:
    """By its converter from transformers."""

    def make(source: Path, part: Path) -> str | None:
        its = python("cpu-convert")
        if isinstance(its, str):
            return its
        command = [str(its.parent / "ct2-transformers-converter"), "--model", str(source)]
        return run([*command, "--output_dir", str(part), "--quantization", kind])

    return made_by(shape, f"ctranslate2-{kind}", make)
