"""Projects for tests, rendered as the command renders them."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
from collections.abc import Mapping
from contextlib import chdir, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from unittest import mock

from click.testing import CliRunner
from llama_marketplace.author.new import new

from llama_core.cli import app

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
    *words: str | Path, at: Path | None = None, python: str | Path | None = None
) -> tuple[int, str]:
    """The command line as a user runs it: exit code and what it printed. Here, or by a Python of
    another environment."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    if python is not None:
        command = [python, "-m", "llama_core", *words]
        ran = subprocess.run(command, cwd=at, env=env, capture_output=True, text=True)
        return ran.returncode, ran.stdout or ran.stderr
    code, out, err = commanded(*map(str, words), at=at or Path.cwd(), env=env)
    return code, out or err


def commanded(*words: str, at: Path, env: Mapping[str, str]) -> tuple[int, str, str]:
    """The same without a process of its own, which would import again what is here: the exit code,
    what was printed, and what was said beside it."""
    out, err = io.StringIO(), io.StringIO()
    log = logging.getLogger("llama_core")
    before = log.handlers, log.propagate
    with (
        mock.patch.dict(os.environ, env, clear=True), chdir(at),
        redirect_stdout(out), redirect_stderr(err),
    ):  # fmt: skip
        try:
            code = app.run([*words])
        finally:
            log.handlers, log.propagate = before
    return code, out.getvalue(), err.getvalue()


def checked(path: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """`llama plugins check --json`: exit code and the object."""
    code, said = llama("plugins", "check", path, "--json", *flags)
    return code, json.loads(said)
