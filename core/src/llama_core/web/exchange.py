"""One request or WebSocket under watch: what its application reads, and what it sends.

Stands between the server and the application, meters what is read, and completes the headers of
what is sent. A limit that breaks while the application reads raises there, however often it reads
again, and the caller gets the refusal whatever the application makes of the exception. It decides
nothing about who may come in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from llama_core.web.asgi import Headers, Message, Receive, Scope, Send
from llama_core.web.limits import BodyMeter, Limits, too_large
from llama_core.web.pages import secured
from llama_core.web.refusal import RefusedError


class Exchange:
    """Wraps the `receive` and `send` of one connection."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        limits: Limits,
        clock: Callable[[], float],
    ) -> None:
        self.headers: Headers = []  # what every answer gets besides its own
        self.refused: RefusedError | None = None
        self.answered = False  # too late to answer otherwise: a response started, a socket closed
        self._accepted = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._limits = limits
        self._clock = clock
        self._body = BodyMeter(limits)
        self._body_ended = False

    async def receive(self) -> Message:
        if self.refused:
            raise self.refused
        try:
            if self._scope["type"] == "websocket":
                return await self._receive_message()
            if self._body_ended:
                return await self._receive()
            return await self._receive_body()
        except RefusedError as refused:
            self.refused = refused
            raise

    async def _receive_message(self) -> Message:
        message = await self._receive()
        content = message.get("bytes") or (message.get("text") or "").encode()
        if message["type"] == "websocket.receive" and len(content) > self._limits.body_bytes:
            raise too_large(self._limits)
        return message

    async def _receive_body(self) -> Message:
        # Only the time spent waiting here is the caller's; the application's own is not.
        began = self._clock()
        try:
            async with asyncio.timeout(self._body.seconds_left()):
                message = await self._receive()
        except TimeoutError:
            raise self._body.too_slow() from None
        self._body_ended = message["type"] != "http.request" or not message.get("more_body", False)
        self._body.add(len(message.get("body", b"")), self._clock() - began)
        return message

    async def send(self, message: Message) -> None:
        if self.refused and not self.answered:
            return
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            message = {**message, "headers": self._complete(message.get("headers", ()))}
        self._accepted |= kind == "websocket.accept"
        self.answered |= kind.endswith("response.start") or kind == "websocket.close"
        await self._send(message)

    async def refuse(self, refused: RefusedError) -> None:
        """Answer in the application's stead."""
        if self._scope["type"] == "websocket" and (
            self._accepted or "websocket.http.response" not in self._scope.get("extensions", {})
        ):
            code, reason = refused.close_code, refused.code
            await self._send({"type": "websocket.close", "code": code, "reason": reason})
            return
        headers = [(b"content-type", b"application/json"), *refused.headers]
        if refused.status in (408, 413) and self._scope.get("http_version", "1.1") < "2":
            # The rest of the body is still on its way and will not be read.
            headers.append((b"connection", b"close"))
        await self.respond(refused.status, headers, refused.body())

    async def respond(self, status: int, headers: Headers, body: bytes = b"") -> None:
        prefix = "websocket.http" if self._scope["type"] == "websocket" else "http"
        length = [] if status == 204 else [(b"content-length", str(len(body)).encode())]
        complete = self._complete([*headers, *length])
        start = {"type": f"{prefix}.response.start", "status": status, "headers": complete}
        await self._send(start)
        await self._send({"type": f"{prefix}.response.body", "body": body, "more_body": False})

    def _complete(self, headers: Headers) -> Headers:
        # Who may read an answer is this policy's to say, so the application's own word is dropped.
        own = [(k, v) for k, v in headers if k.lower() != b"access-control-allow-origin"]
        return secured([*own, *self.headers])
