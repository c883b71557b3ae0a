"""Coverage-guided fuzzing of every parser, each in a process of its own, for `make test-all`."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from .bounds import TIMES
from .parsers import PARSERS

SECONDS = 2 * TIMES
START_SECONDS = 300  # a watchdog: importing instrumented code on a busy machine


MADE_FOR = sys.platform == "linux" and platform.machine() == "x86_64"


@pytest.mark.slow
@pytest.mark.skipif(not MADE_FOR, reason="atheris is not made for this system")
@pytest.mark.parametrize("mode", ["bytes", "structure"])
@pytest.mark.parametrize("name", PARSERS)
def test_nothing_is_found(name: str, mode: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    command = [sys.executable, "-m", "fuzz.target", name, mode, str(corpus)]
    options = [f"-max_total_time={SECONDS}", f"-artifact_prefix={tmp_path}/found-"]
    ended = subprocess.run(
        [*command, *options],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=START_SECONDS + SECONDS,
    )
    said = ended.stdout[-3000:] + ended.stderr[-6000:]
    found = {path.name: path.read_bytes() for path in tmp_path.glob("found-*")}
    assert ended.returncode == 0, f"{said}\n{found}"
    assert "DONE" in ended.stderr, said  # it ran until its time was over
