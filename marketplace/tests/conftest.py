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

    def __init__(self) -> None:
        self._running: list[subprocess.Popen[str]] = []

    def __call__(self, folder: Path) -> str:
        code = (
            "import sys; from pathlib import Path\n"
            "from llama_marketplace.publish.serving import IndexServer\n"
            "server = IndexServer(Path(sys.argv[1]), '127.0.0.1', 0)\n"
            "print(server.url, flush=True); server.serve_forever()"
        )
        command = [sys.executable, "-c", code, str(folder)]
        started = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._running.append(started)
        assert started.stdout is not None
        return started.stdout.readline().strip()

    def stop(self) -> None:
        for each in self._running:
            each.kill()
            each.communicate()
        self._running.clear()


@pytest.fixture
def serve() -> Iterator[Serve]:
    serving = Serve()
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
