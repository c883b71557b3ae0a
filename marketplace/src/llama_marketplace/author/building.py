"""A wheel out of a project, by the project's own build backend."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

from llama_core.errors import LlamaError
from llama_marketplace.author.surroundings import bare

BUILD_SECONDS = 1800  # a watchdog: a native plugin may take minutes
TOLD_LINES = 12


def build(folder: Path, into: Path, *, isolated: bool = True) -> Path:
    """The one wheel that the project makes; not isolated, with the build backend installed here."""
    if importlib.util.find_spec("build") is None:
        raise LlamaError("building a wheel needs the package `build`", remedy="pip install build")
    how = [] if isolated else ["--no-isolation"]
    try:
        ran = subprocess.run(  # noqa: S603 - a fixed program, no shell
            [sys.executable, "-m", "build", "--wheel", *how, "--outdir", str(into), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            timeout=BUILD_SECONDS,
            check=False,
            env=bare(),
        )
    except subprocess.TimeoutExpired:
        raise LlamaError(f"the wheel was not built within {BUILD_SECONDS} s") from None
    if ran.returncode != 0:
        lacking = not isolated and "is not available" in ran.stdout
        way = "Leave out --no-isolation, or install what [build-system] of pyproject.toml requires."
        told = last_lines(ran.stdout)
        raise LlamaError(f"the wheel cannot be built: {told}", remedy=way if lacking else None)
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise LlamaError(f"building gave {len(wheels)} wheels where one was expected")
    return wheels[0]


def last_lines(text: str) -> str:
    """What a program said at its end."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-TOLD_LINES:])
