"""Projects for tests, rendered as the command renders them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from llama_marketplace.author.new import new

TEN = (
    "backend", "native-backend", "quantizer", "sampler", "parallelism", "processor", "drafter",
    "model", "route", "command",
)  # fmt: skip


def rendered(kind: str, folder: Path, name: str | None = None, **flags: str) -> Path:
    """A project; its folder."""
    more = [part for flag, text in flags.items() for part in (f"--{flag}", text)]
    words = [kind, name or f"my-{kind}", "--folder", str(folder), "--yes", *more]
    done = CliRunner().invoke(new, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return folder


def llama(
    *words: str | Path, at: Path | None = None, python: str | Path = sys.executable
) -> tuple[int, str]:
    """The command line as a user runs it: exit code and what it printed."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    ran = subprocess.run(
        [python, "-m", "llama_core", *words],
        cwd=at,
        env=env,
        capture_output=True,
        text=True,
    )
    return ran.returncode, ran.stdout or ran.stderr


def checked(path: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """`llama plugins check --json`: exit code and the object."""
    code, said = llama("plugins", "check", path, "--json", *flags)
    return code, json.loads(said)
