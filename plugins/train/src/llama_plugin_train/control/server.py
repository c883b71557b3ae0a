"""The port of a run: a server on loopback, on a thread of its own, behind core's guard.

It listens on 127.0.0.1 and nowhere else: from another machine, forward the port with ssh. Every
route asks for the token that lies in the run's folder.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from llama_core.web import Guard, Keyring, Limits, Policy, Routes, new_key
from llama_plugin_train.control.address import Address
from llama_plugin_train.control.app import RULES, application
from llama_plugin_train.control.hub import Hub
from llama_plugin_train.control.protocol import MESSAGE_BYTES
from llama_plugin_train.runs.faults import RunError

if TYPE_CHECKING:
    import uvicorn

    from llama_core.web.asgi import App, Receive, Scope, Send

HOST = "127.0.0.1"
MOST_CONNECTIONS = 64
PING_SECONDS = 20.0  # between two pings of a stream, and for the answer to one
START_SECONDS = 30.0
DRAIN_SECONDS = 3.0  # for listeners to hear how the run ended


class ControlServer:
    """Open while the run runs. `port` 0 takes a free one."""

    def __init__(self, run: Path, hub: Hub, *, port: int = 0) -> None:
        self._hub = hub
        self._open = 0
        token, key = new_key("run", {"train"})
        self._socket = _listen(port)
        url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self.address = Address(url, token, os.getpid())
        limits = Limits(body_bytes=MESSAGE_BYTES)
        policy = Policy(Routes(RULES), Keyring((key,)), limits=limits)
        self._server = _server(self._counted(Guard(application(hub), policy)))
        self._thread = threading.Thread(
            target=self._server.run,
            args=([self._socket],),
            name="llama-control",
            daemon=True,  # a run that fails must not wait for who watches it
        )
        try:
            self._start()
            self._path = self.address.write(run)
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """Tell all listeners the rest, and go. Whoever does not take it is left behind."""
        self._path.unlink(missing_ok=True)
        self._hub.close()
        deadline = time.monotonic() + DRAIN_SECONDS
        while self._open and time.monotonic() < deadline:
            time.sleep(0.01)
        self._stop()

    def __enter__(self) -> ControlServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _counted(self, app: App) -> App:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self._open += 1
            try:
                await app(scope, receive, send)
            finally:
                self._open -= 1

        return counted

    def _start(self) -> None:
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise RunError(f"the control server did not start on {self.address.url}")
            time.sleep(0.005)

    def _stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(DRAIN_SECONDS)
        self._socket.close()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except OSError as error:
        raise RunError(
            f"the run cannot listen on {HOST}:{port}: {error.strerror}",
            remedy="Choose another port, or 0 for a free one.",
        ) from error


def _server(app: App) -> uvicorn.Server:
    import uvicorn

    from llama_plugin_train.control.connection import Prompt

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Prompt,
            ws="websockets-sansio",
            loop="asyncio",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            ws_max_size=MESSAGE_BYTES,
            ws_ping_interval=PING_SECONDS,
            ws_ping_timeout=PING_SECONDS,
            ws_per_message_deflate=False,  # nothing leaves this machine
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
    )
