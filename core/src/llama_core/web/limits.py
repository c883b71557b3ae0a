"""How much one caller may send, and how slowly.

Counts and compares; it reads no socket and no clock, it is told sizes and seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from llama_core.web.asgi import Scope, header_values
from llama_core.web.refusal import RefusedError


@dataclass(frozen=True, slots=True)
class Limits:
    """The bounds of one request, and of one message on a WebSocket."""

    num_headers: int = 100
    head_bytes: int = 32 * 1024  # path, query and headers together
    body_bytes: int = 8 * 1024 * 1024
    # A body has this long, and longer by what has come of it at the least rate: a large upload
    # may take its time, a trickle that only keeps the connection open may not.
    body_seconds: float = 15.0
    body_bytes_per_second: int = 32 * 1024


def check_head(scope: Scope, limits: Limits) -> None:
    """Refuse a request line and headers that are too much to look at."""
    headers = scope["headers"]
    target = len(scope.get("raw_path") or scope["path"].encode()) + len(
        scope.get("query_string", b"")
    )
    num_bytes = target + sum(len(name) + len(value) for name, value in headers)
    if len(headers) > limits.num_headers or num_bytes > limits.head_bytes:
        raise RefusedError(
            413,
            "headers_too_large",
            f"At most {limits.num_headers} headers and {limits.head_bytes} bytes of path, query "
            "and headers are read.",
        )


def check_declared(scope: Scope, limits: Limits) -> None:
    """Refuse a body whose declared length is garbage or too large, before any of it is read."""
    values = header_values(scope["headers"], b"content-length")
    if not values:
        return
    if len(set(values)) > 1 or not values[0].isdigit():
        raise RefusedError(400, "invalid_content_length", "Content-Length is not one number.")
    # Compared by length first: int() of thousands of digits raises.
    digits = values[0].lstrip(b"0") or b"0"
    if len(digits) > 18 or int(digits) > limits.body_bytes:
        raise too_large(limits)


def too_large(limits: Limits) -> RefusedError:
    return RefusedError(413, "body_too_large", f"At most {limits.body_bytes} bytes are accepted.")


class BodyMeter:
    """Adds up what really arrives of one body: a declared length only allows refusing sooner."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.num_bytes = 0
        self.waited_seconds = 0.0

    def seconds_left(self) -> float:
        earned = self.num_bytes / self.limits.body_bytes_per_second
        return self.limits.body_seconds + earned - self.waited_seconds

    def add(self, num_bytes: int, waited_seconds: float) -> None:
        self.num_bytes += num_bytes
        self.waited_seconds += waited_seconds
        if self.num_bytes > self.limits.body_bytes:
            raise too_large(self.limits)
        if self.seconds_left() < 0:
            raise self.too_slow()

    def too_slow(self) -> RefusedError:
        return RefusedError(
            408,
            "body_timeout",
            f"The body did not arrive within {self.limits.body_seconds:g} seconds, nor at "
            f"{self.limits.body_bytes_per_second} bytes a second after them.",
        )
