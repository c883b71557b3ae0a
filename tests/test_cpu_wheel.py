"""The CPU backend without a compiler: from wheels it runs, from source it says what to do instead.

No program that compiles or builds is on the PATH: nothing is, but what the environment itself has.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from .test_distributions import CONSTRAINTS, ROOT, build

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="the platforms here are those it is not"),
]


@pytest.fixture(scope="module")
def dists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    """Source distribution and wheel of the core and of the plugin."""
    folders = {"core": ROOT / "core", "cpu": ROOT / "plugins" / "cpu"}
    return {name: build(each, tmp_path_factory.mktemp(name)) for name, each in folders.items()}


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty environment."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    return tmp_path / "env" / "bin"


def without_compiler(*command: str | Path, at: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "HTTP", "http", "SSL"))}
    env = {**kept, "PATH": str(at), "HOME": str(at.parent), "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, env=env, cwd=at.parent, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def test_wheels_run_a_model_without_a_compiler(dists: dict, bare: Path) -> None:
    wheels = [dists[name][1] for name in ("core", "cpu")]
    assert "-py3-none-" in wheels[1].name
    pip = [bare / "python", "-m", "pip", "install", "-q", "-c", CONSTRAINTS]
    done = without_compiler(*pip, *wheels, at=bare)
    assert done.returncode == 0, done.stdout[-4000:]
    model = ROOT / "tests" / "fixtures" / "tiny"
    run = [bare / "llama", "run", model, "Once", "--max-tokens", "4", "--json"]
    done = without_compiler(*run, at=bare)
    assert done.returncode == 0, done.stdout[-4000:]
    told = json.loads(done.stdout)
    assert told["backend"]["name"] == "cpu"
    assert len(told["tokens"]) == 4
    doctor = without_compiler(bare / "llama", "doctor", at=bare).stdout
    assert re.search(r"^backend cpu: .*\((portable|avx2|avx512|neon)\)", doctor, re.MULTILINE)


@pytest.mark.skipif(sys.platform != "linux", reason="the platforms here are those it is not")
def test_the_wheel_asks_for_nothing_but_glibc(dists: dict, tmp_path: Path) -> None:
    """So that a build in a manylinux container is a manylinux wheel; no symbol is but its own."""
    wheel = dists["cpu"][1]
    command = [sys.executable, "-m", "auditwheel", "show", wheel]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = " ".join(done.stdout.split())
    assert re.search(rf'platform tag: "manylinux_2_\d+_{platform.machine()}"', found), found
    with zipfile.ZipFile(wheel) as archive:
        library = archive.extract("llama_plugin_cpu/libllama_cpu.so", tmp_path)
    shown = subprocess.run(
        ["nm", "--dynamic", "--defined-only", library], capture_output=True, text=True, check=True
    )
    names = {line.split()[-1] for line in shown.stdout.splitlines()}
    header = (ROOT / "plugins" / "cpu" / "native" / "llama_cpu.h").read_text("utf-8")
    assert names == set(re.findall(r"^[a-z].*\b(llama_\w+)\(", header, re.MULTILINE))
    stripped = subprocess.run(["nm", library], capture_output=True, text=True, check=False)
    assert "no symbols" in stripped.stderr


def test_the_source_says_what_to_do_without_a_compiler(dists: dict, bare: Path) -> None:
    pip = [bare / "python", "-m", "pip", "install", "-c", CONSTRAINTS]
    done = without_compiler(*pip, dists["core"][1], dists["cpu"][0], at=bare)
    assert done.returncode != 0
    assert "there is no C compiler" in done.stdout
    assert "pip install --only-binary :all: llama-plugin-cpu" in done.stdout
