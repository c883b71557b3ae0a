"""Projects for tests, rendered as the command renders them."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
from contextlib import ExitStack, chdir, redirect_stderr, redirect_stdout
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
    another environment; in this one a process of its own would import again what is here."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("LLAMA_")}
    if python is not None:
        command = [python, "-m", "llama_core", *words]
        ran = subprocess.run(command, cwd=at, env=env, capture_output=True, text=True)
        return ran.returncode, ran.stdout or ran.stderr
    out, err = io.StringIO(), io.StringIO()
    log = logging.getLogger("llama_core")
    before = log.handlers, log.propagate
    with ExitStack() as stack:
        for each in (mock.patch.dict(os.environ, env, clear=True), chdir(at or Path.cwd())):
            stack.enter_context(each)
        stack.enter_context(redirect_stdout(out))
        stack.enter_context(redirect_stderr(err))
        try:
            code = app.run([*map(str, words)])
        finally:
            log.handlers, log.propagate = before
    return code, out.getvalue() or err.getvalue()


def checked(path: Path, *flags: str) -> tuple[int, dict[str, Any]]:
    """`llama plugins check --json`: exit code and the object."""
    code, said = llama("plugins", "check", path, "--json", *flags)
    return code, json.loads(said)
