"""How the tests of `examples/` run them: as a process of its own, or as a module."""

from __future__ import annotations

import io
import json
import os
import runpy
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from llama_core.engine.load import Loaded
from llama_core.engine.request import Params

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
TRAINED = ROOT / "tests" / "fixtures" / "tiny"
WATCHDOG_SECONDS = 60.0


def imported(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *args: str | Path | float, stdin: str = "") -> str:
    """Run an example as a user does; gives what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *map(str, args)],
        input=stdin,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="replace",
        env={**os.environ, "PYTHONIOENCODING": "utf-8:replace"},
        timeout=WATCHDOG_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def inside(name: str, *args: str | Path | float, stdin: str | bytes = "") -> str:
    """Run it in this process, which is quicker: gives what it printed, or what it ended with."""
    argv, given = sys.argv, sys.stdin
    sys.argv = [f"{name}.py", *map(str, args)]
    piped = stdin if isinstance(stdin, bytes) else stdin.encode("utf-8")
    sys.stdin = io.TextIOWrapper(io.BytesIO(piped), "utf-8")
    try:
        with redirect_stdout(io.StringIO()) as out:
            runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        return str(end.code)
    finally:
        sys.argv, sys.stdin = argv, given
    return out.getvalue()


def answer(model: Loaded, text: str, max_tokens: int, stop: tuple[str, ...] = ()) -> str:
    params = Params(max_tokens=max_tokens, stop=stop)
    return model.engine.generate(model.request(text, params)).choices[0].text


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + WATCHDOG_SECONDS
    while not holds():
        assert time.monotonic() < end, "it never came to be"
        time.sleep(0.01)


def rows_of(text: str) -> list[dict[str, Any]]:
    """Lines of JSON; a text may hold what else ends a line for Python."""
    return [json.loads(line) for line in text.split("\n") if line]
