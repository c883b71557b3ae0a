"""Running `llama` in a process of its own, without plugins, as a user's shell would."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def llama(*args: Any, stdin: str | None = None, plugins: bool = False) -> Done:
    command = [sys.executable, "-m", "llama_core", *([] if plugins else ["--no-plugins"])]
    done = subprocess.run(
        [*command, *map(str, args)], capture_output=True, text=True, input=stdin, timeout=120
    )
    return Done(done.returncode, done.stdout, done.stderr)
