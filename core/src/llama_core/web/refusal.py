"""What a refused caller is told: the status, the nested JSON error, the WebSocket close code.

Knows how an error looks on the wire. It does not know why anything is refused, and it sends
nothing: `exchange` does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from llama_core.web.asgi import Headers

_TYPES = {401: "authentication_error", 403: "permission_error"}
_CLOSE_POLICY, _CLOSE_TOO_BIG = 1008, 1009


class RefusedError(Exception):
    """A request or a message that will not be served; its text is for the caller to read."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        headers: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.headers: Headers = list(headers)

    @property
    def close_code(self) -> int:
        return _CLOSE_TOO_BIG if self.status == 413 else _CLOSE_POLICY

    def body(self) -> bytes:
        return error_body(self.status, self.code, self.message, self.param)


def error_body(status: int, code: str, message: str, param: str | None = None) -> bytes:
    """The error every route answers with, `{"error": {"message", "type", "param", "code"}}`."""
    kind = _TYPES.get(status, "server_error" if status >= 500 else "invalid_request_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}).encode()


def shown(value: bytes) -> str:
    """A caller's value as an error may repeat it: quoted, short, and never undecodable."""
    text = repr(value.decode("latin-1"))
    return text if len(text) <= 80 else text[:77] + "...'"
