"""A second environment on the same machine, with plugins of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.publish.recording import record_of
from llama_marketplace.wheels import inspect

from ..install.test_packages import Index, index, metre
from ..wheels.making import Made

__all__ = ["index"]  # the fixture

NAME = "llama-plugin-rhyme"


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """The interpreter of a new environment that sees this one's packages, as over a base image."""
    venv.create(tmp_path / "fresh", with_pip=False)
    fresh = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin") / "python"
    command = [str(fresh), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    shared = [each for each in sys.path if each.endswith(("site-packages", "src"))]
    (site / "base.pth").write_text("\n".join(shared) + "\n")
    return fresh


@pytest.mark.slow
def test_another_environment_has_plugins_of_its_own(
    python: Path, operator: Any, serve: Any, index: Index, tmp_path: Path
) -> None:
    wheel = inspect(Made(requires=("llama-core>=0.1", "metre-fast>=1")).write(tmp_path / "dist"))
    record = record_of([wheel], publisher="acme", now=datetime.now(UTC), needs={})
    operator.publish(record, wheels=(wheel.path,))
    index.put(metre())
    url = serve(operator.folder)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "XDG_", "PIP_"))}
    env = {**kept, "HOME": str(tmp_path / "home")}

    def llama(interpreter: str, *arguments: str) -> str:
        command = [interpreter, "-m", "llama_core", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=env, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    fresh = str(python)
    llama(fresh, "marketplace", "indexes", "add", "corp", url, "--root", operator.root)
    arguments = ("marketplace", "install", "rhyme", "--package-index", index.url)
    assert "metre-fast 1.0, which they need" in llama(fresh, *arguments)
    listed = json.loads(llama(fresh, "marketplace", "list", "--json"))["plugins"]
    assert (NAME, True) in [(each["name"], each["managed"]) for each in listed]
    assert "rhyme" in llama(fresh, "plugins", "list")
    assert "rhyme" not in llama(sys.executable, "plugins", "list")
    llama(fresh, "marketplace", "verify")
    llama(fresh, "marketplace", "rollback")
    assert "rhyme" not in llama(fresh, "plugins", "list")
