"""The C interface as another language meets it: a program file, the example in C, and bad files."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llama_plugin_cpu import native
from llama_plugin_cpu.backend import CpuBackend
from llama_plugin_cpu.export import export
from safetensors.numpy import save_file

from llama_core.contracts.step import DeviceSampling, Plan, Want
from llama_core.model import rewrites
from llama_core.model.encodings import parse_encoding
from llama_core.model.rewrites.act import SetAct
from llama_core.model.weights import TensorWeights, tensor
from llama_core.testing import drive, tiny
from llama_core.testing.drive import Part

HERE = Path(__file__).parents[1]
COMPILER = shutil.which("cc")
PLAN = Plan(kv_bytes=1 << 20, block_size=16, max_tokens=64, max_sequences=2)
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
PROMPT = [5, 6, 7, 60]
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler is here")


def encoded(kind: str, encoding: str):
    """A tiny model with matrices in codes, and integer activations."""
    graph, held = tiny.model(kind)
    tensors = {name: tensor(held.array(name)) for name in graph.shapes}
    if encoding == "f32":
        return graph, held
    for name, one in tensors.items():
        if len(one.shape) == 2 and "norm" not in name:
            tensors[name] = one.encoded(parse_encoding(encoding))
    act = [] if encoding.startswith(("nf4", "bf16")) else [SetAct("q8:32")]
    return rewrites.apply(act, graph, TensorWeights(tensors))


@pytest.fixture(scope="session")
def embed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("embed") / "embed"
    library = next(native.FOLDER.glob("libllama_cpu.*"))
    command = [COMPILER, *STRICT, "-I", HERE / "native", HERE / "examples" / "embed.c", library]
    subprocess.run([*command, f"-Wl,-rpath,{native.FOLDER}", "-o", out], check=True, timeout=60)
    return out


def by_python(graph, held, count: int) -> list[list[int]]:
    """The same two sequences on the same kernels, stepped from Python."""
    chains = ((("greedy", 0.0),), (("temperature", 0.8), ("top-k", 40.0), ("sample", 0.0)))
    program = CpuBackend(threads=1).compile(graph, held, PLAN)
    found: list[list[int]] = [[], []]
    for number in range(count):
        parts = [
            Part(PROMPT if not number else mine[-1:], position, owner, Want.TOKEN)
            for owner, mine in enumerate(found)
            for position in [len(PROMPT) + number - 1 if number else 0]
        ]
        work = drive.batch(program.kv, *parts)
        last = np.isin(np.arange(len(work.want_T)), work.starts_S1[1:] - 1)
        work = replace(work, want_T=np.where(last, work.want_T, 0).astype(np.uint8))
        seeds = (0, 7)
        asked = tuple(DeviceSampling(c, s, number) for c, s in zip(chains, seeds, strict=True))
        out = program.submit(replace(work, sampling_S=asked)).result()
        for mine, token in zip(found, out.tokens_R, strict=True):
            mine.append(int(token))
    program.close()
    return found


MODELS = [("llama", "f32"), ("llama", "q4:g32:min"), ("llama", "q8:g32"), ("llama", "nf4:g32"),
          ("gemma2", "q4:g32"), ("mixtral", "q4:g32"), ("qwen2", "bf16")]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize(("kind", "encoding"), MODELS)
def test_the_example_in_c_gives_the_tokens_of_python(embed, tmp_path, kind, encoding) -> None:
    graph, held = encoded(kind, encoding)
    export(graph, held, tmp_path / "program")
    command = [embed, tmp_path / "program", "18", *map(str, PROMPT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found = [[int(token) for token in line.split()] for line in done.stdout.splitlines()]
    assert found == by_python(graph, held, 18)
    assert found[0] != found[1]


@needs_compiler
def test_the_example_says_what_it_cannot_do(embed, tmp_path) -> None:
    graph, held = tiny.model()
    export(graph, held, tmp_path / "program")
    whole = (tmp_path / "program").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:-9])

    def say(*arguments: str) -> str:
        done = subprocess.run(
            [embed, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode in (1, 2)
        return done.stderr

    assert "usage" in say()
    for odd in ("5x", "", str(2**32 + 1), str(2**31), str(10**30)):
        assert "usage" in say("program", "3", "1", odd)
        assert "usage" in say("program", odd, "1")
    assert "no program that can be loaded" in say("nowhere", "3", "1")
    assert "no program that can be loaded" in say("cut", "3", "1")
    assert "row 0 has token 64" in say("program", "3", "64")


@needs_compiler
def test_the_header_is_c_and_cplusplus(tmp_path) -> None:
    """On its own, under every warning; the example's calls from C++ too, where there is one."""
    (tmp_path / "one.c").write_text(
        '#include "llama_cpu.h"\nint main(void) { return llama_abi(); }\n'
    )
    languages = [("c", "c11")] + [("c++", "c++11")] * bool(shutil.which("c++"))
    for language, standard in languages:
        command = [COMPILER, "-x", language, f"-std={standard}", *STRICT[1:], "-fsyntax-only"]
        subprocess.run(
            [*command, "-I", HERE / "native", tmp_path / "one.c"], check=True, timeout=60
        )


def load(path: Path) -> int:
    ffi, lib = native.library()
    pool, out = native.Pool(1), ffi.new("llama_program **")
    limits = ffi.new("llama_limits *", [0, 0, 0, 8, 2, 16, 4, 0])
    status = lib.llama_program_load(pool.handle, str(path).encode(), limits, out)
    assert status or out[0] != ffi.NULL
    if out[0] != ffi.NULL:
        text = ffi.string(lib.llama_program_message(out[0])).decode()
        assert bool(text) == bool(status)
    lib.llama_program_free(out[0])
    return int(status)


def test_a_file_that_is_spoiled_is_refused(tmp_path) -> None:
    """Cut anywhere, or with any number in it another, it is loaded or refused; nothing else."""
    _, lib = native.library()
    graph, held = encoded("llama", "q4:g32:min")
    export(graph, held, tmp_path / "program")
    whole = (tmp_path / "program").read_bytes()
    assert load(tmp_path / "program") == lib.LLAMA_OK
    dice, spoiled = random.Random(1), tmp_path / "spoiled"
    for _ in range(150):
        spoiled.write_bytes(whole[: dice.randrange(len(whole))])
        assert load(spoiled) == lib.LLAMA_FILE
    spoiled.write_bytes(whole + b"more")
    assert load(spoiled) == lib.LLAMA_FILE
    statuses = set()
    for _ in range(400):
        at = dice.randrange(len(whole) // 4) * 4 if dice.random() < 0.5 else dice.randrange(60) * 4
        odd = dice.choice([0, -1, 1, 7, 1 << 20, dice.randrange(-(1 << 31), 1 << 31)])
        spoiled.write_bytes(
            whole[:at] + odd.to_bytes(4, sys.byteorder, signed=True) + whole[at + 4 :]
        )
        statuses.add(load(spoiled))
    assert {lib.LLAMA_OK, lib.LLAMA_FILE} < statuses


def test_a_command_exports_a_model(tmp_path) -> None:
    held, folder, out = tiny.checkpoint(), tmp_path / "model", tmp_path / "program"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(tiny.CONFIG)))
    save_file({name: held.array(name) for name in held}, folder / "model.safetensors")

    def run(model: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "llama_plugin_cpu.export", model, out]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    done = run(folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: {out.stat().st_size} bytes\n"
    assert load(out) == 0
    failed = run(tmp_path / "nowhere")
    assert failed.returncode == 1
    assert "nowhere" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert [each.name for each in tmp_path.glob("program*")] == ["program"]
