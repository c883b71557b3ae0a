"""The words of ASGI 3 as types, and how a header is found. Knows no rule and refuses nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]


def header_values(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> list[bytes]:
    """Every value of a header, as two of one name may be read differently by two readers."""
    return [value for key, value in headers if key.lower() == name]


def route_path(scope: Scope) -> str:
    """The path as the application's own router sees it: without the prefix of a proxy or mount."""
    path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
    inside = root and (path == root or path.startswith(root + "/"))
    return path[len(root) :] if inside else path
