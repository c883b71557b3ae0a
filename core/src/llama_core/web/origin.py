"""Which host names and which web pages may speak to this server.

A page in a browser on the user's machine reaches every port of it, so two headers that the page
cannot forge are checked: Host, which unmasks a DNS name rebound to this machine, and Origin, which
names the page. Knows nothing of keys; whoever is no browser passes here and meets them next.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from llama_core.errors import LlamaError
from llama_core.web.asgi import Headers, Scope, header_values
from llama_core.web.bind import as_address, is_loopback, is_wildcard
from llama_core.web.refusal import RefusedError, shown

_AUTHORITY = re.compile(
    r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::([0-9]{1,5}))?", re.ASCII | re.IGNORECASE
)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*", re.ASCII | re.IGNORECASE)
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9_, -]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}
_SCHEMES = {"ws": "http", "wss": "https"}


class Origin(NamedTuple):
    """Scheme, host and port, written out, so that equal origins are equal."""

    scheme: str
    host: str
    port: int | None


def parse_authority(text: str) -> tuple[str, int | None] | None:
    """The host in its one canonical spelling, and the port if there is one; None for garbage."""
    match = _AUTHORITY.fullmatch(text)
    if not match:
        return None
    host, port = match[1].lower().removesuffix("."), int(match[2]) if match[2] else None
    address = as_address(host)
    if not host or (host.startswith("[") and not address) or (port or 0) > 65535:
        return None
    return str(address or host), port


def parse_origin(text: str) -> Origin | None:
    """The origin that is written here; None for garbage, and for the `null` of a sandbox."""
    scheme, separator, rest = text.partition("://")
    authority = parse_authority(rest)
    if not separator or not _SCHEME.fullmatch(scheme) or not authority:
        return None
    scheme = scheme.lower()
    return Origin(scheme, authority[0], authority[1] or _DEFAULT_PORTS.get(scheme))


@dataclass(frozen=True, slots=True)
class Sites:
    """The names this server goes by besides loopback, and the foreign pages that may call it."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[Origin] = frozenset()
    any_address: bool = False  # an IP address as Host is no rebound name, whichever it is

    @classmethod
    def for_bind(
        cls, host: str, *, names: Iterable[str] = (), origins: Iterable[str] = ()
    ) -> Sites:
        """What follows from the address a server listens on, with what its user adds."""
        hosts, pages = set(), set()
        implied = is_wildcard(host) or is_loopback(host)
        for name in [*names] if implied else [host.partition("%")[0], *names]:
            address, authority = as_address(name), parse_authority(name)
            if not address and not authority:
                raise LlamaError(f"'{name}' is not a host name", remedy="Write it as example.org.")
            hosts.add(str(address) if address or not authority else authority[0])
        for text in origins:
            origin = parse_origin(text)
            if not origin:
                raise LlamaError(
                    f"'{text}' is not an origin that can be allowed",
                    remedy="Name each one in full, such as https://example.org:8443.",
                )
            pages.add(origin)
        return cls(frozenset(hosts), frozenset(pages), any_address=is_wildcard(host))

    def check_host(self, scope: Scope) -> Origin:
        """The origin of this server as the caller addressed it. Refuses a name that is not ours."""
        values = header_values(scope["headers"], b"host")
        authority = parse_authority(values[0].decode("latin-1")) if len(values) == 1 else None
        if not authority:
            raise RefusedError(400, "invalid_host", "Exactly one valid Host header is needed.")
        host, port = authority
        known = is_loopback(host) or host in self.hosts
        if not known and not (self.any_address and as_address(host)):
            message = f"The host {shown(values[0])} is not one this server goes by."
            raise RefusedError(403, "host_not_allowed", message)
        scheme = str(scope.get("scheme", "http"))
        scheme = _SCHEMES.get(scheme, scheme)
        return Origin(scheme, host, port or _DEFAULT_PORTS.get(scheme))

    def cross_origin_headers(self, scope: Scope, here: Origin) -> Headers:
        """What lets an allowed foreign page read the answer. Refuses any other foreign page."""
        # Caches must not hand one page's answer to another.
        vary: Headers = [(b"vary", b"Origin")] if self.origins else []
        values = header_values(scope["headers"], b"origin")
        if not values:
            return vary
        origin = parse_origin(values[0].decode("latin-1")) if len(values) == 1 else None
        if origin == here:
            return vary
        if origin is None or origin not in self.origins:
            message = f"Pages of the origin {shown(values[0])} may not call this server."
            raise RefusedError(403, "origin_not_allowed", message)
        return [
            *vary,
            (b"access-control-allow-origin", values[0]),
            (b"access-control-expose-headers", b"Retry-After, X-Request-Id"),
        ]


def is_preflight(scope: Scope, cross_origin: Headers) -> bool:
    """Whether a browser asks on behalf of an allowed page before it sends the request itself."""
    allowed = any(name == b"access-control-allow-origin" for name, _ in cross_origin)
    asked = header_values(scope["headers"], b"access-control-request-method")
    return allowed and scope.get("method") == "OPTIONS" and bool(asked)


def preflight_headers(scope: Scope, methods: list[str]) -> Headers:
    """The answer to a preflight: the path's methods, and the headers that were asked for."""
    asked = header_values(scope["headers"], b"access-control-request-headers")
    answer = [
        (b"access-control-allow-methods", ", ".join(methods).encode()),
        (b"access-control-max-age", b"600"),
        (b"vary", b"Access-Control-Request-Method, Access-Control-Request-Headers"),
    ]
    # Client libraries add headers of their own; a page that is trusted may send what it likes.
    if len(asked) == 1 and _HEADER_NAMES.fullmatch(asked[0]):
        answer.append((b"access-control-allow-headers", asked[0]))
    return answer
