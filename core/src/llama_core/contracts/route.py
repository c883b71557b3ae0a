"""A route adds an ASGI application to a server, below a path and behind a scope."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Literal, Protocol

from llama_core.contracts.spec import Spec

Message = MutableMapping[str, Any]
ASGIApp = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class Route(Protocol):
    """Everything below `path` answers to `app`; callers need a key with `scope`.

    As the ASGI specification has it, `root_path` is the mount and the request's path stays whole.
    """

    path: str
    scope: Literal["infer", "train", "admin", "public"]
    app: ASGIApp


SPEC: Spec[Route] = Spec("route", Route, "llama_add_route")
