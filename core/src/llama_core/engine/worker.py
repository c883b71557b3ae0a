"""The process an engine runs in when it is not the caller's: `python -m llama_core.engine.worker`.

It is told over its standard input where to connect, with which key, and which function makes its
engine. It serves one host and ends with it. Restarting, retrying and giving up are the host's.
"""

from __future__ import annotations

import json
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from llama_core.engine import wire
from llama_core.engine.engine import Engine
from llama_core.engine.faces import admit, refused
from llama_core.errors import LlamaError

BEAT_SECONDS = 0.2  # how often a working engine that has nothing to say says so


def build(target: str, options: Mapping[str, Any]) -> Engine:
    """Call `module:function` with the options."""
    module, _, name = target.partition(":")
    engine = getattr(import_module(module), name)(**options)
    if not isinstance(engine, Engine):
        raise LlamaError(f"{target} gave a {type(engine).__name__} where an Engine was due")
    return engine


class Worker:
    """One engine and the line to its host."""

    def __init__(self, connection: socket.socket, engine: Engine) -> None:
        self.connection = connection
        self.engine = engine
        self._inbox: deque[wire.Message] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._said = time.monotonic()

    def serve(self) -> None:
        """Until the host says stop or goes away."""
        threading.Thread(target=self._listen, name="llama-host", daemon=True).start()
        while True:
            self._take_mail()
            if self._stopping:
                break
            if not self.engine.has_work:
                self._wake.wait()
                self._wake.clear()
                continue
            updates = self.engine.step()
            if updates:
                self._say({"type": "updates", "updates": [wire.from_update(u) for u in updates]})
            elif time.monotonic() - self._said > BEAT_SECONDS:
                self._say({"type": "beat"})
        self.engine.close()

    def _say(self, message: wire.Message) -> None:
        self._said = time.monotonic()
        try:
            self.connection.sendall(wire.pack(message))
        except OSError:
            self._stopping = True  # the host has gone, and nobody else is served

    def _listen(self) -> None:
        unpacker = wire.Unpacker()
        try:
            while data := self.connection.recv(1 << 16):
                self._inbox.extend(unpacker.feed(data))
                self._wake.set()
        except (OSError, wire.WireError):
            pass  # either way the line is of no more use
        self._stopping = True
        self._wake.set()

    def _take_mail(self) -> None:
        while self._inbox:
            message = self._inbox.popleft()
            kind = message["type"]
            if kind == "stop":
                self._stopping = True
            elif kind == "cancel":
                self.engine.cancel(str(message.get("id")))
            elif kind == "add":
                error = self._add(message)
                if error is not None:
                    update = refused(str(message.get("id")), error)
                    self._say({"type": "updates", "updates": [wire.from_update(update)]})
            else:
                raise wire.WireError(f"the host sent a message of the type {kind!r}")

    def _add(self, message: wire.Message) -> LlamaError | None:
        try:
            request = wire.to_request(message.get("request"))
        except LlamaError as error:
            return error
        return admit(self.engine, request)


def main() -> int:
    """What a supervisor starts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host to handle
    told = json.loads(sys.stdin.readline())
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect(told["socket"])
    wire.answer(connection, bytes.fromhex(told["key"]))
    try:
        engine = build(told["target"], told["options"])
    except Exception as error:  # noqa: BLE001  the host is told whatever it was
        reason = error if isinstance(error, LlamaError) else LlamaError(repr(error))
        connection.sendall(wire.pack({"type": "failed", "error": wire.from_error(reason)}))
        return 1
    connection.sendall(wire.pack({"type": "ready"}))
    Worker(connection, engine).serve()
    return 0


if __name__ == "__main__":
    sys.exit(main())
