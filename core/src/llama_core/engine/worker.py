"""The process an engine runs in when it is not the caller's: `python -m llama_core.engine.worker`.

It is told over its standard input where to connect, with which key, and which function makes its
engine. It serves one host and ends with it. Restarting, retrying and giving up are the host's.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from shutil import rmtree
from typing import Any

from llama_core.engine import wire
from llama_core.engine.engine import Engine
from llama_core.engine.faces import admit, refused
from llama_core.engine.request import Update
from llama_core.errors import LlamaError
from llama_core.isolation import explain

BEAT_SECONDS = 0.2  # how often a working engine that has nothing to say says so


def build(target: str, options: Mapping[str, Any]) -> Engine:
    """Call `module:function` with the options."""
    module, _, name = target.partition(":")
    engine = getattr(import_module(module), name)(**options)
    if not isinstance(engine, Engine):
        raise LlamaError(f"{target} gave a {type(engine).__name__} where an Engine was due")
    return engine


class Worker:
    """The line to its host, and once it serves its engine."""

    engine: Engine

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._serving = False
        self._inbox: deque[wire.Message] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._said = time.monotonic()
        self._unsaid: dict[str, LlamaError] = {}  # requests of which something could not be told

    def listen(self) -> None:
        threading.Thread(target=self._listen, name="llama-host", daemon=True).start()

    def fail(self, error: LlamaError) -> None:
        self._say({"type": "failed", "error": wire.from_error(error)})

    def serve(self, engine: Engine) -> None:
        """Until the host says stop or goes away."""
        self.engine = engine
        self._serving = True
        self._say({"type": "ready"})
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
                self._tell(updates)
            elif time.monotonic() - self._said > BEAT_SECONDS:
                self._say({"type": "beat"})
        self.engine.close()

    def _say(self, message: wire.Message) -> None:
        self._send(wire.pack(message))

    def _send(self, data: bytes) -> None:
        self._said = time.monotonic()
        try:
            self.connection.sendall(data)
        except OSError:
            self._stopping = True  # the host has gone, and nobody else is served

    def _tell(self, updates: Sequence[Update]) -> None:
        """A step's updates, in as many messages as they need. One that cannot travel is alone."""
        updates = [self._ending(one) if one.request_id in self._unsaid else one for one in updates]
        try:
            each = [wire.from_update(one) for one in updates]
            data = wire.pack({"type": "updates", "updates": each})
        except Exception as error:  # noqa: BLE001  pieces and states are made by plugins
            if len(updates) > 1:
                half = len(updates) // 2
                self._tell(updates[:half])
                self._tell(updates[half:])
                return
            [one] = updates
            fault = wire.WireError(
                f"what request {one.request_id!r} was to be told cannot leave the worker process: "
                f"{explain(error)}",
                remedy="Ask for less at once, or use ThreadedEngine",
            )
            self._unsaid[one.request_id] = fault
            self.engine.cancel(one.request_id)
            self._tell([one])
        else:
            self._send(data)

    def _ending(self, update: Update) -> Update:
        """What is told of a request after something of it could not be: that it ends, and why."""
        error = self._unsaid[update.request_id]
        if update.last:
            del self._unsaid[update.request_id]
        ends = update.finish is not None
        return Update(
            update.request_id,
            update.choice,
            finish="error" if ends else None,
            error=error if ends else None,
            usage=update.usage,
            last=update.last,
        )

    def _listen(self) -> None:
        unpacker = wire.Unpacker()
        try:
            while data := self.connection.recv(1 << 16):
                self._inbox.extend(unpacker.feed(data))
                self._wake.set()
                if not self._serving:
                    break  # before it is ready a host says one thing only: stop
        except (OSError, wire.WireError):
            pass  # either way the line is of no more use
        self._stopping = True
        self._wake.set()
        if not self._serving:
            os._exit(1)  # nobody is left to build an engine for, and building cannot be interrupted

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
                    self._tell([update])
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
    try:
        connection.connect(told["socket"])
        wire.answer(connection, bytes.fromhex(told["key"]))
    except (OSError, wire.WireError):  # the host was killed meanwhile: nothing of it shall stay
        rmtree(Path(told["socket"]).parent, ignore_errors=True)
        return 1
    worker = Worker(connection)
    worker.listen()
    try:
        engine = build(told["target"], told["options"])
    except Exception as error:  # noqa: BLE001  the host is told whatever it was
        reason = error if isinstance(error, LlamaError) else LlamaError(repr(error))
        worker.fail(reason)
        return 1
    worker.serve(engine)
    return 0


if __name__ == "__main__":
    sys.exit(main())
