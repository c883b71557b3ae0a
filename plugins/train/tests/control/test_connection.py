"""Who says nothing is hung up on, and keeps nobody out."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.control import connection, server
from llama_plugin_train.control.client import Control, ControlError


def silent(stage: Any, said: bytes = b"") -> socket.socket:
    """A connection that shows no token, and says no more than this."""
    line = socket.create_connection(("127.0.0.1", stage.server.address.port), timeout=20)
    line.sendall(said)
    return line


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"GET /v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n",
        b"GET /v1/run HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET",
    ],
    ids=["nothing", "half a head", "half a second head"],
)
def test_a_connection_whose_request_does_not_come_is_closed(
    stage: Any, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.2)
    with silent(stage, said) as line, stage.listen() as stream:
        stream.recv(timeout=20)
        read = b"".join(iter(lambda: line.recv(4096), b""))  # until it is closed
        assert read.count(b"HTTP/1.1 401") == said.count(b"\r\n\r\n")
        time.sleep(0.5)  # who came in may say nothing for as long as it likes
        stage.run.walk()
        assert json.loads(stream.recv(timeout=20))["step"] == 1
        waiting = {"command": "save", "at": 90, "wait_seconds": 0.5}
        assert stage.tell(**waiting)[0] == 202


def test_silent_connections_keep_nobody_out_for_long(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 1.0)
    lines = [silent(stage) for _ in range(server.MOST_CONNECTIONS)]
    control = Control(stage.server.address)
    with pytest.raises(ControlError, match="as many callers as it takes") as full:
        control.state()
    assert full.value.code == "too_many_connections"
    for line in lines:
        assert line.recv(1) == b""
        line.close()
    assert control.state()["state"] == "running"
