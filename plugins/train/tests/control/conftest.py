"""A run that is rehearsed, its open door, and clients who knock as anybody may."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control.hub import Hub
from llama_plugin_train.control.server import ControlServer
from llama_plugin_train.loop.commands import Commands
from llama_plugin_train.runs import RunDirectory

from .rehearsal import Rehearsal


@dataclass
class Stage:
    """A run in a folder that listens."""

    folder: Path
    hub: Hub
    server: ControlServer
    run: Rehearsal

    @property
    def url(self) -> str:
        return self.server.address.url

    @property
    def token(self) -> str:
        return self.server.address.token

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, Any]:
        """Status and JSON of one request, with the token unless headers are given."""
        place = urlsplit(self.url)
        line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        try:
            line.request(method, path, body, self.headers() if headers is None else headers)
            answer = line.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None
        finally:
            line.close()

    def tell(self, **said: Any) -> tuple[int, Any]:
        return self.ask("POST", "/v1/commands", json.dumps(said).encode())

    def listen(self, query: str = "", **how: Any) -> Any:
        """A WebSocket on the stream, by a client of its own."""
        from websockets.sync.client import connect

        url = self.url.replace("http", "ws", 1) + "/v1/stream" + query
        given = {"additional_headers": self.headers(), "open_timeout": 20, "proxy": None}
        return connect(url, **{**given, **how})


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    with RunDirectory.create(tmp_path / "run", config={}, seeds={}, sources={}) as run:
        yield run.path


@pytest.fixture
def stage(folder: Path) -> Iterator[Stage]:
    commands = Commands()
    hub = Hub("rehearsal", commands, {"learning_rate": 0.5})
    with ControlServer(folder, hub) as server:
        run = Rehearsal(lambda event: hub.publish(event, event.to_json()), commands)
        yield Stage(folder, hub, server, run)
        run.end()
