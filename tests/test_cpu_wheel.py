"""The CPU backend without a compiler: from wheels it runs, from source it says what to do instead.

No program that compiles or builds is on the PATH: nothing is, but what the environment itself has.
"""

from __future__ import annotations

import os
import subprocess
import sys
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
    done = without_compiler(bare / "llama", "run", model, "Once", "--backend", "cpu", at=bare)
    assert done.returncode == 0, done.stdout[-4000:]
    assert done.stdout.strip()


def test_the_source_says_what_to_do_without_a_compiler(dists: dict, bare: Path) -> None:
    pip = [bare / "python", "-m", "pip", "install", "-c", CONSTRAINTS]
    done = without_compiler(*pip, dists["core"][1], dists["cpu"][0], at=bare)
    assert done.returncode != 0
    assert "there is no C compiler" in done.stdout
    assert "pip install --only-binary :all: llama-plugin-cpu" in done.stdout
