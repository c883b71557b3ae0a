"""A tiny ASGI server for one connection: it plays the client and records what the guard sends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from llama_core.web import CALLER, Guard, Keyring, Policy, Routes, Rule, Sites, new_key

RULES = (
    Rule("GET", "/health", "public"),
    Rule("GET", "/v1/models", "infer"),
    Rule("GET", "/v1/models/{id:path}", "infer"),
    Rule("POST", "/v1/chat/completions", "infer"),
    Rule("POST", "/v1/train", "train"),
    Rule("POST", "/v1/models/load", "admin"),
    Rule("WEBSOCKET", "/v1/stream", "infer"),
    Rule("WEBSOCKET", "/v1/admin", "admin"),
    Rule("WEBSOCKET", "/public", "public"),
)
SECRETS, KEYS = {}, []
for _scope in ("infer", "train", "admin"):
    SECRETS[_scope], _key = new_key(f"the-{_scope}", {_scope})
    KEYS.append(_key)


class Clock:
    """Time that passes only when told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Client:
    """Sends one request or WebSocket, with a good Host and no key unless told otherwise."""

    path: str = "/health"
    method: str = "GET"
    key: str | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    host: bytes | None = b"localhost:8000"
    origin: bytes | None = None
    body: list[bytes] = field(default_factory=lambda: [b""])
    messages: list[Any] = field(default_factory=list)
    client: Any = ("192.0.2.7", 5000)
    extra: dict[str, Any] = field(default_factory=dict)
    tick: Callable[[], None] = lambda: None
    stall: bool = False  # never send what comes after the body chunks that are there
    sent: list[Any] = field(default_factory=list)

    def scope(self, kind: str) -> dict[str, Any]:
        headers = list(self.headers)
        if self.host is not None:
            headers.append((b"host", self.host))
        if self.origin is not None:
            headers.append((b"origin", self.origin))
        if self.key is not None:
            headers.append((b"authorization", b"Bearer " + self.key.encode()))
        return {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": self.method,
            "scheme": "http" if kind == "http" else "ws",
            "path": self.path,
            "raw_path": self.path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": headers,
            "client": self.client,
            "server": ("127.0.0.1", 8000),
            **self.extra,
        }

    async def _send(self, message: Any) -> None:
        self.sent.append(message)

    def http(self, app: Any) -> Client:
        chunks = list(self.body)

        async def receive() -> Any:
            self.tick()
            if chunks:
                body = chunks.pop(0)
                return {
                    "type": "http.request",
                    "body": body,
                    "more_body": self.stall or bool(chunks),
                }
            if self.stall:
                await asyncio.Event().wait()
            return {"type": "http.disconnect"}

        asyncio.run(app(self.scope("http"), receive, self._send))
        return self

    def websocket(self, app: Any) -> Client:
        queue = [{"type": "websocket.connect"}]
        for content in self.messages:
            kind = "text" if isinstance(content, str) else "bytes"
            queue.append({"type": "websocket.receive", kind: content})

        async def receive() -> Any:
            return queue.pop(0) if queue else {"type": "websocket.disconnect", "code": 1000}

        scope = self.scope("websocket")
        del scope["method"]
        asyncio.run(app(scope, receive, self._send))
        return self

    @property
    def kinds(self) -> list[str]:
        return [message["type"] for message in self.sent]

    @property
    def status(self) -> int:
        starts = [m for m in self.sent if m["type"].endswith("response.start")]
        assert len(starts) == 1, self.kinds
        return starts[0]["status"]

    @property
    def text(self) -> bytes:
        return b"".join(m["body"] for m in self.sent if m["type"].endswith("response.body"))

    @property
    def error(self) -> dict[str, Any]:
        answer = json.loads(self.text)
        assert answer.keys() == {"error"}
        assert answer["error"].keys() == {"message", "type", "param", "code"}
        return answer["error"]

    def header(self, name: bytes) -> bytes | None:
        start = next(m for m in self.sent if m["type"].endswith("response.start"))
        values = [value for key, value in start["headers"] if key == name]
        return values[0] if len(values) == 1 else None if not values else b" | ".join(values)


class Echo:
    """The application behind the guard: reads all, answers with the number of bytes it read."""

    def __init__(self, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.headers = headers or [(b"content-type", b"text/plain")]
        self.scopes: list[Any] = []
        self.read: list[Any] = []

    @property
    def caller(self) -> Any:
        return self.scopes[-1][CALLER]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self._talk(receive, send)
            return
        num_bytes, more = 0, True
        while more:
            message = await receive()
            self.read.append(message)
            if message["type"] == "http.disconnect":
                return
            num_bytes += len(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await send({"type": "http.response.body", "body": b"%d" % num_bytes, "more_body": False})

    async def _talk(self, receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "websocket.disconnect":
            self.read.append(message)
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
            else:
                await send({"type": "websocket.send", "text": "heard"})


@pytest.fixture
def client() -> type[Client]:
    return Client


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echo() -> Callable[..., Echo]:
    return Echo


@pytest.fixture
def secrets() -> dict[str, str]:
    return SECRETS


@pytest.fixture
def keys() -> Keyring:
    return Keyring(tuple(KEYS))


@pytest.fixture
def guard(clock: Clock) -> Callable[..., Guard]:
    """A guard with the rules and keys above, around an `Echo` unless told otherwise."""

    def make(app: Any = None, **changes: Any) -> Guard:
        sites = Sites.for_bind(
            "127.0.0.1", names=["llama.example"], origins=["https://app.example"]
        )
        settings = {"routes": Routes(RULES), "keys": Keyring(tuple(KEYS)), "sites": sites}
        return Guard(app or Echo(), Policy(**{**settings, **changes}), clock=clock)

    return make
