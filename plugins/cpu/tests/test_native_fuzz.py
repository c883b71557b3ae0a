"""Random programs against plain loops, on the library as it is installed.

The same cases run under sanitizers in `test_native_sanitizers`, a million of them.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from llama_plugin_cpu import native

HERE = Path(__file__).parents[1]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler is here")
def test_random_programs_give_what_plain_loops_give(tmp_path: Path) -> None:
    """Shapes, tails, encodings, unaligned inputs; a batch with one number spoiled is refused."""
    library = next(native.FOLDER.glob("libllama_cpu.*"))
    command = ["cc", "-std=c11", "-O1", HERE / "tests" / "fuzz.c", library]
    linked = [f"-Wl,-rpath,{native.FOLDER}", "-lm", "-o", tmp_path / "fuzz"]
    subprocess.run([*command, *linked], check=True, timeout=120)
    run = [tmp_path / "fuzz", "4000", "3"]
    done = subprocess.run(run, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    assert " 0 faults" in done.stdout
