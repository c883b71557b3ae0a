"""The security headers that every answer carries, and the stricter ones of an HTML page.

Knows headers only. A header that the application has set itself is left as it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from llama_core.web.asgi import Headers, header_values

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

_ALWAYS: Headers = [
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
]
_PAGE: Headers = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
]


def secured(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The headers of an answer with the security headers it lacks."""
    done = list(headers)
    html = any(b"html" in kind.lower() for kind in header_values(done, b"content-type"))
    present = {name.lower() for name, _ in done}
    added = [*_ALWAYS, *_PAGE] if html else _ALWAYS
    return done + [(name, value) for name, value in added if name not in present]
