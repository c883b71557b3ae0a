"""The guard before an application with a port: every check, in order, on every connection.

The order is from what costs nothing to what costs a hash, and from what protects a user's browser
to what protects the server: head size, Host, Origin, route, key, scope, body. The rules themselves
are in the modules beside it. It knows no framework and never looks into a body.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from llama_core.web.asgi import App, Receive, Scope, Send, header_values, route_path
from llama_core.web.bind import is_loopback
from llama_core.web.exchange import Exchange
from llama_core.web.keys import Key, Keyring, KeyScope, bearer_secret
from llama_core.web.limits import Limits, check_declared, check_head
from llama_core.web.origin import Sites, is_preflight, preflight_headers
from llama_core.web.refusal import RefusedError
from llama_core.web.routes import WEBSOCKET, Routes

logger = logging.getLogger(__name__)

CALLER = "llama_core.key"  # where in its scope the application finds the caller's Key, or None


@dataclass(frozen=True, slots=True)
class Policy:
    """All that a guard goes by. The defaults let nobody in but on public routes."""

    routes: Routes
    keys: Keyring = field(default_factory=Keyring)
    sites: Sites = field(default_factory=Sites)
    limits: Limits = field(default_factory=Limits)
    keyless: frozenset[KeyScope] = frozenset()  # for this machine alone, while there is no key


class Guard:
    """ASGI middleware: `Guard(app, policy)` is the application to serve."""

    def __init__(
        self, app: App, policy: Policy, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.app = app
        self.policy = policy
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] not in ("http", "websocket"):
            raise ValueError(f"no such ASGI scope is served here: {scope['type']!r}")
        exchange = Exchange(scope, receive, send, self.policy.limits, self.clock)
        try:
            inner = await self._admit(scope, exchange)
        except RefusedError as refused:
            await self._refuse(scope, exchange, refused)
            return
        if inner is None:
            return
        try:
            await self.app(inner, exchange.receive, exchange.send)
        except Exception:
            # Frameworks wrap what passes through them, so the exchange is asked, not the type.
            if exchange.refused is None or exchange.answered:
                raise
        if exchange.refused and not exchange.answered:
            await self._refuse(scope, exchange, exchange.refused)

    async def _admit(self, scope: Scope, exchange: Exchange) -> Scope | None:
        """The scope the application may see, or None where a preflight has been answered."""
        policy = self.policy
        check_head(scope, policy.limits)
        here = policy.sites.check_host(scope)
        exchange.headers = policy.sites.cross_origin_headers(scope, here)
        if is_preflight(scope, exchange.headers):
            methods = policy.routes.methods(route_path(scope))
            if methods:
                await exchange.respond(204, preflight_headers(scope, methods))
                return None
        key = self._authorize(scope)
        if scope["type"] == "http":
            check_declared(scope, policy.limits)
        # Without the secret: what an application never sees it cannot log.
        headers = [pair for pair in scope["headers"] if pair[0].lower() != b"authorization"]
        return {**scope, "headers": headers, CALLER: key}

    def _authorize(self, scope: Scope) -> Key | None:
        policy = self.policy
        needed = policy.routes.scopes(_method(scope), route_path(scope))
        presented = header_values(scope["headers"], b"authorization")
        secret = bearer_secret(presented)
        key = policy.keys.match(secret) if secret else None
        if not needed <= (key.scopes if key else self._without_key(scope)):
            if key:
                missing = " and ".join(f"'{name}'" for name in sorted(needed - key.scopes))
                raise RefusedError(
                    403, "insufficient_scope", f"This key lacks the scope {missing}."
                )
            code, message = "missing_api_key", "Send a key as 'Authorization: Bearer <key>'."
            if presented:
                code, message = "invalid_api_key", "This is not a key of this server. " + message
            challenge = [(b"www-authenticate", b"Bearer")]
            raise RefusedError(401, code, message, headers=challenge)
        return key

    def _without_key(self, scope: Scope) -> frozenset[KeyScope]:
        client = scope.get("client")  # None on a Unix socket, which has file permissions instead
        local = client is None or is_loopback(client[0])
        return self.policy.keyless if local and not self.policy.keys else frozenset()

    async def _refuse(self, scope: Scope, exchange: Exchange, refused: RefusedError) -> None:
        # Neither path nor headers: a caller may have put a key in either.
        client = scope.get("client") or ("a local socket",)
        logger.info("refused %s: %d %s", client[0], refused.status, refused.code)
        await exchange.refuse(refused)


def _method(scope: Scope) -> str:
    if scope["type"] == "websocket":
        return WEBSOCKET
    # A caller may send any word as its HTTP method, this one too.
    method = str(scope["method"])
    return "" if method == WEBSOCKET else method
