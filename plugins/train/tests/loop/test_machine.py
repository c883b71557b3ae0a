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
torch.zeros(1 << 24)
try:
    import resource
except ImportError:
    print(0)
else:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.zeros(1 << 24)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_freed_memory_is_taken_again_without_asking_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    if platform.libc_ver()[0] == "glibc":
        assert int(done.stdout) < 1000  # of 16,384 pages
