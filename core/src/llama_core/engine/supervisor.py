"""The face of an engine in another process, which is started, watched, and started again.

Whatever happens to the worker, every request gets a last word with its id: one that no token of was
heard yet is tried once more, the others end with `WorkerDied`. It knows processes and time, and of
an engine only what goes over the wire.
"""

from __future__ import annotations

import json
import logging
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from llama_core.engine import wire
from llama_core.engine.faces import Face
from llama_core.engine.faults import EngineClosed, WorkerDied
from llama_core.engine.held import Held, Patience, pack
from llama_core.engine.request import Request, Update
from llama_core.errors import LlamaError
from llama_core.isolation import explain, let_pass

log = logging.getLogger("llama_core")

State = Literal["starting", "ready", "restarting", "broken", "closed"]


class WorkerEngine(Face):
    """An engine made by `target` ("module:function") with `options`, in a process of its own."""

    def __init__(
        self,
        target: str,
        options: Mapping[str, Any] | None = None,
        *,
        max_open: int = 100_000,
        patience: Patience | None = None,
        env: Mapping[str, str] | None = None,
        on_state: Callable[[State, LlamaError | None], None] | None = None,
    ) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise LlamaError(
                "a worker process needs Unix sockets, which this system lacks",
                remedy="Use ThreadedEngine",
            )
        try:
            json.dumps(dict(options or {}))
        except (TypeError, ValueError) as error:
            raise LlamaError(f"a worker's options must be plain JSON: {error}") from error
        super().__init__(max_open)
        self.target = target
        self.options = dict(options or {})
        self.patience = Patience() if patience is None else patience
        self.env = env
        self.state: State = "starting"
        self.num_restarts = 0
        self._on_state = on_state
        self._listener_failed = False
        self._process: subprocess.Popen[str] | None = None
        self._held: dict[str, Held] = {}  # the supervising thread's own: the worker has them
        self._waiting: dict[str, Held] = {}  # its own too: for a worker that is ready
        self._orders: deque[Held | str] = deque()
        self._outgoing = bytearray()
        self._closing = False
        self._failures = 0
        self._was_ready = False  # what cannot start the first time will not the fifth either
        self._heard_at = 0.0
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._thread = threading.Thread(target=self._supervise, name="llama-worker", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the worker process, while there is one."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def close(self) -> None:
        self._closing = True
        self._ring()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _send(self, request: Request) -> None:
        pack(request)  # what cannot travel is refused here, to the caller's face
        self._orders.append(Held(request, time.monotonic()))
        self._ring()

    def _cancel(self, request_id: str) -> None:
        self._orders.append(request_id)
        self._ring()

    def _ring(self) -> None:
        with suppress(OSError):  # full: it will wake anyway; closed: nobody is left to
            self._wake_write.send(b"!")

    # --------------------------------------------------- in the supervising thread

    def _supervise(self) -> None:
        error: LlamaError = EngineClosed("the engine was closed")
        try:
            while not self._closing:
                error = self._one_life()
                if self._closing:
                    error = EngineClosed("the engine was closed")
                    break
                self._failures += 1
                self._bury(error)
                if self._failures >= self.patience.most_failures:
                    self._become("broken", error)
                    break
                self.num_restarts += 1
                self._become("restarting", error)
                self._rest()
        except Exception as fault:  # noqa: BLE001  no request may be left without an answer
            error = EngineClosed(f"the supervision of the worker broke down: {fault!r}")
            error.__cause__ = fault
        finally:
            self._end_all(error)
            if self.state != "broken":
                self._become("closed", None)
            self._wake_read.close()
            self._wake_write.close()

    def _one_life(self) -> LlamaError:
        """Start a worker and talk to it until it is gone; gives the reason."""
        folder = Path(tempfile.mkdtemp(prefix="llama-"))  # only this user may look inside
        connection = None
        try:
            connection = self._start(folder)
            shutil.rmtree(folder, ignore_errors=True)  # they have met: a killed host leaves none
            return self._converse(connection)
        except (OSError, KeyError, TypeError, wire.WireError) as error:
            return WorkerDied(f"the worker process could not be understood: {error!r}")
        except LlamaError as error:
            return error
        finally:
            if connection is not None:
                connection.close()
            self._reap()
            shutil.rmtree(folder, ignore_errors=True)

    def _start(self, folder: Path) -> socket.socket:
        key = os.urandom(wire.KEY_BYTES)
        path = folder / "s"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
            listener.listen(4)
            listener.settimeout(0.1)
            self._process = process = subprocess.Popen(
                [sys.executable, "-P", "-m", "llama_core.engine.worker"],
                stdin=subprocess.PIPE,
                text=True,
                env=None if self.env is None else dict(self.env),
                start_new_session=True,  # the terminal's ctrl-C is for the host to handle
            )
            assert process.stdin is not None
            process.stdin.write(
                json.dumps(
                    {
                        "socket": str(path),
                        "key": key.hex(),
                        "target": self.target,
                        "options": self.options,
                    }
                )
                + "\n"
            )
            process.stdin.close()
            until = time.monotonic() + self.patience.start_seconds
            while time.monotonic() < until and not self._closing:
                self._sort_orders()
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    if process.poll() is not None:
                        raise WorkerDied(
                            f"the worker process {self._fate()} at its start"
                        ) from None
                    continue
                connection.settimeout(10.0)
                try:
                    wire.greet(connection, key)
                except (OSError, wire.WireError):
                    connection.close()  # a stranger; the worker may still come
                    continue
                connection.setblocking(False)
                return connection
        raise WorkerDied(f"the worker process was not there in {self.patience.start_seconds:g} s")

    def _converse(self, connection: socket.socket) -> LlamaError:
        unpacker = wire.Unpacker()
        self._outgoing.clear()
        ready = False
        started = self._heard_at = time.monotonic()
        while True:
            self._sort_orders()
            if ready:
                self._hand_over()
            if self._closing:
                self._ask_to_stop(connection)
                return EngineClosed("the engine was closed")
            readable, writable = self._wait(connection, self._longest_wait(ready, started))
            if writable:
                self._write(connection)
            if readable:
                data = self._read(connection)
                if not data:
                    return WorkerDied(f"the worker process {self._fate()}")
                self._heard_at = time.monotonic()
                for message in unpacker.feed(data):
                    if message["type"] == "failed":
                        self._failures += 0 if self._was_ready else self.patience.most_failures
                        return wire.to_error(message["error"])
                    if message["type"] == "ready":
                        ready = self._was_ready = True
                        self._become("ready", None)
                    elif message["type"] == "updates":
                        self._hear([wire.to_update(u) for u in message["updates"]])
            elif self._overdue(ready, started):
                return self.patience.lost(ready)

    def _wait(self, connection: socket.socket | None, seconds: float | None) -> tuple[bool, bool]:
        """Until the worker can be read from or written to, somebody rings, or time is up."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake_read, selectors.EVENT_READ)
            if connection is not None:
                write = selectors.EVENT_WRITE if self._outgoing else 0
                selector.register(connection, selectors.EVENT_READ | write)
            readable = writable = False
            for key, events in selector.select(seconds):
                if key.fileobj is self._wake_read:
                    self._wake_read.recv(4096)
                else:
                    readable = bool(events & selectors.EVENT_READ)
                    writable = bool(events & selectors.EVENT_WRITE)
        return readable, writable

    def _longest_wait(self, ready: bool, started: float) -> float | None:
        if not ready:
            until = started + self.patience.start_seconds
        elif self._held:
            until = self._heard_at + self.patience.hang_seconds
        else:
            return None
        left = max(0.0, until - time.monotonic())
        return left if ready else self._until_deadline(left)

    def _until_deadline(self, most: float) -> float:
        """Seconds until a request that waits here is late, or `most`."""
        lefts = [left for one in self._waiting.values() if (left := one.left) is not None]
        return max(0.0, min([most, *lefts]))

    def _overdue(self, ready: bool, started: float) -> bool:
        now = time.monotonic()
        if not ready:
            return now - started >= self.patience.start_seconds
        return bool(self._held) and now - self._heard_at >= self.patience.hang_seconds

    def _sort_orders(self) -> None:
        """What came in: cancelled and late ones end here where the worker has not got them."""
        while self._orders:
            order = self._orders.popleft()
            if not isinstance(order, str):
                self._waiting[order.request.id] = order
            elif self._waiting.pop(order, None) is not None:
                self._deliver([Update(order, finish="cancelled", last=True)])
            elif order in self._held:  # otherwise it has ended by itself meanwhile
                self._held[order].cancelled = True
                self._outgoing += wire.pack({"type": "cancel", "id": order})
        for request_id, one in list(self._waiting.items()):
            if (left := one.left) is not None and left <= 0:
                del self._waiting[request_id]
                self._deliver([one.too_late()])

    def _hand_over(self) -> None:
        """Give the worker all that waits for one."""
        if self._waiting and not self._held:
            self._heard_at = time.monotonic()  # it may have been silent because it was idle
        for one in self._waiting.values():
            self._outgoing += one.add()
        self._held.update(self._waiting)
        self._waiting.clear()

    def _hear(self, updates: list[Update]) -> None:
        for update in updates:
            held = self._held.get(update.request_id)
            if held is None:
                continue
            held.heard = True
            held.choices.add(update.choice)
            if update.finish is not None:
                held.choices.discard(update.choice)
            if update.finish == "deadline":
                update.error = held.late()  # the worker knows only what was left of it
            if update.last:
                del self._held[update.request_id]
                self._failures = 0
        self._deliver(updates)

    def _bury(self, error: LlamaError) -> None:
        """The worker is gone: end what was heard of, keep the rest for the next one."""
        self._sort_orders()  # who cancelled meanwhile is not computed again
        again: dict[str, Held] = {}
        for request_id, held in self._held.items():
            left = held.left
            if held.cancelled:
                self._deliver([Update(request_id, finish="cancelled", last=True)])
            elif held.heard or held.retried:
                self._deliver(held.lost(error))
            elif left is not None and left <= 0:
                self._deliver([held.too_late()])
            else:
                again[request_id] = Held(held.request, held.since, retried=True)
        self._held.clear()
        self._waiting = {**again, **self._waiting}

    def _become(self, state: State, reason: LlamaError | None) -> None:
        self.state = state
        if self._on_state is None:
            return
        try:
            self._on_state(state, reason)
        except BaseException as error:  # noqa: BLE001  who merely listens ends nothing
            let_pass(error)
            if not self._listener_failed:
                self._listener_failed = True
                log.warning("on_state failed, which is said once: %s", explain(error))

    def _rest(self) -> None:
        """Wait before the next start, longer each time, unless it is all over."""
        pause = self.patience.first_backoff_seconds * 2 ** (self._failures - 1)
        until = time.monotonic() + min(pause, self.patience.longest_backoff_seconds)
        while not self._closing and (left := until - time.monotonic()) > 0:
            self._sort_orders()
            self._wait(None, self._until_deadline(left))

    def _read(self, connection: socket.socket) -> bytes:
        try:
            return connection.recv(1 << 18)
        except OSError:
            return b""

    def _write(self, connection: socket.socket) -> None:
        try:
            del self._outgoing[: connection.send(self._outgoing)]
        except BlockingIOError:
            return
        except OSError:
            self._outgoing.clear()  # it is gone; what it still said is read first

    def _ask_to_stop(self, connection: socket.socket) -> None:
        connection.setblocking(True)
        connection.settimeout(self.patience.stop_seconds)
        process = self._process
        try:
            connection.sendall(wire.pack({"type": "stop"}))
            if process is not None:
                process.wait(self.patience.stop_seconds)
        except (OSError, subprocess.TimeoutExpired):
            return  # it is ended by force then

    def _reap(self) -> None:
        process = self._process
        if process is not None:
            if process.poll() is None:
                process.kill()
            process.wait()

    def _fate(self) -> str:
        """How the process ended, for the error message."""
        assert self._process is not None
        try:
            code = self._process.wait(1.0)
        except subprocess.TimeoutExpired:
            return "hung up"
        return f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"
