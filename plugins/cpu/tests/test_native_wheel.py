"""What is compiled for everybody runs everywhere: only a tier's own objects use its instructions.

Built anew as a wheel is, which takes a minute or two, so `make test-all` runs it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
# Registers wider than SSE's, or any instruction in AVX's encoding; `ver*` and `vm*` are older.
AVX = re.compile(r"%[yz]mm|%k[0-7]\b|\tv(?!er|m)[a-z0-9]+ +[^\n]*%xmm", re.MULTILINE)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here"),
    pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake is here"),
]


def disassembled(folder: Path, target: str) -> dict[str, str]:
    found = {}
    for path in folder.glob(f"CMakeFiles/{target}.dir/**/*.o"):
        done = subprocess.run(["objdump", "-d", path], capture_output=True, text=True, check=True)
        found[path.name] = done.stdout
    assert found, f"no objects of {target}"
    return found


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="instruction-set tier avx2 is not on this machine"
)
def test_only_the_tiers_have_the_instructions_of_tiers(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.endswith("FLAGS")}
    for command in (
        ["cmake", "-S", HERE, "-B", tmp_path],
        ["cmake", "--build", tmp_path, "--parallel", str(os.cpu_count() or 1)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    for target in ("llama_cpu", "kernels_PORTABLE"):
        for name, code in disassembled(tmp_path, target).items():
            assert not AVX.search(code), f"{target}: {name}"
    tier = disassembled(tmp_path, "kernels_AVX2")
    assert all(AVX.search(code) for name, code in tier.items() if "table" not in name)
