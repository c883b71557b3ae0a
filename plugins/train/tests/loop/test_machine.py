"""What the process of a rank does about its memory."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

CODE = """
import torch
from llama_plugin_train.loop.machine import keep_freed_memory
keep_freed_memory()
def take():
    for _ in range(20):
        torch.zeros(1 << 24)
take()
try:
    import resource
except ImportError:
    print(0)
else:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    take()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if platform.libc_ver()[0] == "glibc":
        # Of 16,384 pages twenty times over. Where a small block of somebody else lands in what was
        # freed, the next large one needs a new place: that happens now and then, not every time.
        assert int(done.stdout) <= 4 * 16_384
