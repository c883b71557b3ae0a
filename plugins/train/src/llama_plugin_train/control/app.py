"""The routes of the control API, as an ASGI application. Who may come in is not decided here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from llama_core.web import WEBSOCKET, Rule, error_body
from llama_plugin_train.control.hub import Hub, Listener, Refused
from llama_plugin_train.control.protocol import Answer, MessageError, read_order

RULES = (
    Rule("GET", "/v1/run", "train"),
    Rule("GET", "/v1/events", "train"),
    Rule("POST", "/v1/commands", "train"),
    Rule(WEBSOCKET, "/v1/stream", "train"),
)
MOST_EVENTS = 1000  # in one answer
SEND_SECONDS = 10.0  # a listener takes a message within this, or loses its place
_STATUS = {"too_many_commands": 429}
_GONE, _TRY_AGAIN = 1000, 1013  # WebSocket close codes


def application(hub: Hub) -> Starlette:
    """The application of one run."""

    async def run(_: Request) -> Response:
        return _json(hub.state())

    async def events(request: Request) -> Response:
        try:
            after = _number(request, "after", 0)
            limit = min(_number(request, "limit", MOST_EVENTS), MOST_EVENTS)
        except MessageError as error:
            return _error(400, error.code, str(error), error.param)
        found, missing = hub.events(after, limit)
        return _json({"events": found, "missing": missing})

    async def commands(request: Request) -> Response:
        return await _command(hub, await request.body())

    async def stream(socket: WebSocket) -> None:
        await _stream(hub, socket)

    return Starlette(
        routes=[
            Route("/v1/run", run),
            Route("/v1/events", events),
            Route("/v1/commands", commands, methods=["POST"]),
            WebSocketRoute("/v1/stream", stream),
        ]
    )


async def _command(hub: Hub, body: bytes) -> Response:
    loop = asyncio.get_running_loop()
    answered: asyncio.Future[Answer] = loop.create_future()

    def settle(answer: Answer) -> None:
        if not answered.done():
            answered.set_result(answer)

    try:
        order = read_order(body)
        hub.order(order, lambda answer: _soon(loop, lambda: settle(answer)))
    except MessageError as error:
        return _error(400, error.code, str(error), error.param)
    except Refused as error:
        return _error(_STATUS.get(error.code, 409), error.code, str(error))
    await asyncio.wait({answered}, timeout=order.wait_seconds)
    if not answered.done():
        waiting = {"reply": "received", "id": order.command.id, "command": order.command.name}
        return _json(waiting, 202)
    answer = answered.result()
    if answer.error is not None:
        return _error(409, answer.code or "command_refused", answer.error)
    return _json(answer.to_json())


async def _stream(hub: Hub, socket: WebSocket) -> None:
    """Everything that happens, and answers to what the same socket says."""
    try:
        after = _number(socket, "after", -1)
    except MessageError as error:
        await socket.send_denial_response(_error(400, error.code, str(error), error.param))
        return
    await socket.accept()
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    listener = Listener(lambda: _soon(loop, ready.set))
    hub.listen(listener, None if after < 0 else after)
    tasks = [
        asyncio.ensure_future(_write(socket, listener, ready)),
        asyncio.ensure_future(_read(hub, socket, listener)),
    ]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            with suppress(WebSocketDisconnect):  # it left while something was said to it
                task.result()
    finally:
        hub.leave(listener)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _write(socket: WebSocket, listener: Listener, ready: asyncio.Event) -> None:
    while True:
        await ready.wait()
        ready.clear()
        ended = listener.ended  # asked first: what was there before the end is still sent
        try:
            for message in listener.take():
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(json.dumps(message))
            if listener.missed:
                async with asyncio.timeout(SEND_SECONDS):
                    await socket.send_text(
                        json.dumps({"event": "dropped", "missing": listener.missed})
                    )
                    await socket.close(_TRY_AGAIN, "too slow")
                return
        except TimeoutError:
            return  # its end of the line is stuck, and a word of farewell would be too
        if ended:
            await socket.close(_GONE, "the run is over")
            return


async def _read(hub: Hub, socket: WebSocket, listener: Listener) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            return
        try:
            said = message.get("text") or message.get("bytes") or b""
            order = read_order(said, waits=False)
        except MessageError as error:
            listener.push(_refusal(error.id, error.code, str(error), error.param))
            continue
        listener.push({"reply": "received", "id": order.command.id, "command": order.command.name})
        try:
            hub.order(order, lambda answer: listener.push(answer.to_json()))
        except Refused as error:
            listener.push(_refusal(order.command.id, error.code, str(error)))


def _soon(loop: asyncio.AbstractEventLoop, call: Callable[[], object]) -> None:
    try:
        loop.call_soon_threadsafe(call)
    except RuntimeError:  # the server is gone, and who would have heard with it
        return


def _number(request: HTTPConnection, name: str, default: int) -> int:
    text = request.query_params.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise MessageError(f"'{name}' is a whole number", param=name)
    return int(text)


def _json(data: Any, status: int = 200) -> Response:
    return Response(json.dumps(data), status, media_type="application/json")


def _error(status: int, code: str, message: str, param: str | None = None) -> Response:
    headers = {"retry-after": "1"} if status == 429 else None
    body = error_body(status, code, message, param)
    return Response(body, status, headers, media_type="application/json")


def _refusal(id_: str | None, code: str, message: str, param: str | None = None) -> dict[str, Any]:
    error = {"code": code, "message": message, "param": param}
    return {"reply": "refused", "id": id_, "error": error}
