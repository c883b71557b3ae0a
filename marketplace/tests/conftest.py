"""An index in a folder, and a real server for it in a second process."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for operating

from llama_marketplace.sources import Source
from llama_marketplace.trust.client import Client
from operating import Operator


@pytest.fixture
def operator(tmp_path: Path) -> Operator:
    return Operator(tmp_path)


class Serve:
    """`serve(folder)` gives the address of a server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def __call__(self, folder: Path) -> str:
        return self._ask(str(folder.absolute()))

    def stop(self) -> None:
        """End every server, and what it was just answering."""
        self._ask("")

    def _ask(self, line: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(line, file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline().strip()
        assert answer, "the process that serves has ended"
        return answer


@pytest.fixture(scope="session")
def server() -> Iterator[subprocess.Popen[str]]:
    """One process for all tests: what a server imports costs more than most of them."""
    command = [sys.executable, str(Path(__file__).with_name("serving.py"))]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as running:
        yield running
        running.kill()


@pytest.fixture
def serve(server: subprocess.Popen[str]) -> Iterator[Serve]:
    serving = Serve(server)
    yield serving
    serving.stop()


@pytest.fixture
def source_of(tmp_path: Path) -> Callable[..., Source]:
    """`source_of(url, root)`: an index as a user has it, with folders of its own."""

    def make(url: str, root: str, user: str = "user", **fields: Any) -> Source:
        here = tmp_path / user
        client = Client(url, root, here / "state", here / "cache")
        return Source(fields.pop("name", "main"), url, root, client=client, **fields)

    return make
