"""A model behind an ASGI handler: the answer is streamed, and who hangs up is no longer computed.

    python examples/web_handler.py MODEL --port 8080
    curl -N localhost:8080/generate -d '{"prompt": "Once upon a time", "max_tokens": 50}'

It has neither keys nor limits and listens on this machine only. Needs uvicorn, or any ASGI server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

from llama_core import LlamaError, Plugins
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Params, Request

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]
MOST_BYTES = 1 << 20


class App:
    """POST /generate streams an answer as server-sent events; GET /open counts those under way."""

    def __init__(self, model: Loaded) -> None:
        self.model = model

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        route = (scope.get("method"), scope.get("path"))
        if route == ("GET", "/open"):
            await reply(send, 200, {"open": self.model.engine.num_open})
        elif route == ("POST", "/generate"):
            try:
                request = self.request(await body(receive))
            except (ValueError, RecursionError, LlamaError) as error:
                await reply(send, 400, {"error": {"message": str(error) or repr(error)}})
                return
            work = asyncio.create_task(self.generate(request, send))
            gone = asyncio.create_task(hung_up(receive))
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            work.cancel()  # cancelling the task that reads a stream cancels the request
            gone.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)
            if not work.cancelled():
                work.result()  # what went wrong here is the server's to log
        else:
            await reply(send, 404, {"error": {"message": "there is POST /generate and GET /open"}})

    def request(self, asked: Any) -> Request:
        known = {"prompt", "max_tokens", "stop"}
        if not isinstance(asked, dict) or not asked.keys() <= known or "prompt" not in asked:
            raise ValueError(f"give a JSON object with a prompt, and nothing but {sorted(known)}")
        stop = asked.get("stop") if asked.get("stop") is not None else []
        if not isinstance(stop, str | list):
            raise ValueError(f"stop must be a text or a list of texts, not {stop!r}")
        stop = (stop,) if isinstance(stop, str) else tuple(stop)
        params = Params(max_tokens=asked.get("max_tokens", 100), stop=stop)
        return self.model.request(asked["prompt"], params)

    async def generate(self, request: Request, send: Send) -> None:
        """The first news decides the status: a request that is refused never begins a stream."""
        async with aclosing(self.events(request)) as events:
            first = await anext(events)
            if "error" in first:
                await reply(send, 400, first)
                return
            await begin(send, 200, b"text/event-stream")
            await send(event(first))
            async for one in events:
                await send(event(one))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})

    async def events(self, request: Request) -> AsyncIterator[dict[str, Any]]:
        async with aclosing(self.model.engine.astream(request)) as updates:
            async for update in updates:
                if update.error is not None:
                    yield {"error": update.error.to_dict()}
                elif update.text or update.finish:
                    yield {"text": update.text, "finish": update.finish}


async def body(receive: Receive) -> Any:
    data, more = b"", True
    while more:
        message = await receive()
        data += message.get("body", b"")
        more = message.get("more_body", False)
        if len(data) > MOST_BYTES:
            raise ValueError(f"the body has more than {MOST_BYTES} bytes")
    return json.loads(data)


async def hung_up(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def event(data: dict[str, Any]) -> dict[str, Any]:
    line = f"data: {json.dumps(data)}\n\n".encode()
    return {"type": "http.response.body", "body": line, "more_body": True}


async def begin(send: Send, status: int, kind: bytes) -> None:
    headers = [(b"content-type", kind)]
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def reply(send: Send, status: int, data: dict[str, Any]) -> None:
    await begin(send, status, b"application/json")
    await send({"type": "http.response.body", "body": json.dumps(data).encode()})


def main() -> None:
    import uvicorn

    parser = argparse.ArgumentParser(description="Serve a model to this machine.")
    parser.add_argument("model", help="a folder, a GGUF file, or an installed model's name")
    parser.add_argument("--port", type=int, default=8080)
    args = parser.parse_args()
    with load(args.model, plugins=Plugins.load()) as model:
        uvicorn.run(App(model), host="127.0.0.1", port=args.port, lifespan="off")


if __name__ == "__main__":
    try:
        main()
    except LlamaError as error:
        sys.exit(f"error: {error}")
