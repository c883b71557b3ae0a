"""Running `llama` without plugins and without a process of its own, which would take a second."""

from __future__ import annotations

import io
import json
import logging
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import Any

from llama_core.cli.app import run


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def llama(*args: Any, stdin: str = "") -> Done:
    out, err = io.StringIO(), io.StringIO()
    log, real = logging.getLogger("llama_core"), sys.stdin
    before = log.handlers, log.propagate
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = run(["--no-plugins", *map(str, args)])
    finally:
        sys.stdin = real
        log.handlers, log.propagate = before
    return Done(code, out.getvalue(), err.getvalue())
