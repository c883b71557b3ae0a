"""Speaking to a run from its folder: what `llama train status` and its neighbours do.

It needs nothing but the standard library. A run that is not running is described by what it wrote.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llama_core.errors import LlamaError, plain
from llama_plugin_train.control.address import Address, read_address
from llama_plugin_train.control.protocol import PROTOCOL, VERSION
from llama_plugin_train.runs.faults import RunError

TIMEOUT_SECONDS = 10.0
MOST_BYTES = 32 << 20


class ControlError(LlamaError):
    """A run refused what it was told, or cannot be reached."""

    code = "control_failed"

    def __init__(self, message: str, *, remedy: str | None = None, code: str | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.code = code or self.code


class NotRunning(ControlError):
    """There is a run, but nobody is running it."""

    code = "not_running"


class Control:
    """One run that runs."""

    def __init__(self, address: Address) -> None:
        self._address = address

    @classmethod
    def of(cls, run: Path) -> Control:
        """The run in a folder; raises NotRunning where it does not run."""
        if not (run / "run.json").is_file():
            raise RunError(
                f"{run} holds no run: there is no run.json",
                remedy="Name the folder that `llama train` wrote.",
            )
        address = read_address(run)
        if address is None:
            raise NotRunning(
                f"the run in {run} is not running, or listens to nobody",
                remedy=f"Go on with it: llama train --resume {run}",
            )
        control = cls(address)
        try:
            told = control.state()
        except NotRunning:
            raise NotRunning(
                f"the run in {run} is not running: its process {address.process} is gone "
                "without a word",
                remedy=f"Go on from its last checkpoint: llama train --resume {run}",
            ) from None
        if told.get("protocol") != PROTOCOL or told.get("version") != VERSION:
            raise ControlError(
                f"what listens on {address.url} does not speak {PROTOCOL} {VERSION}",
                remedy="Use the version of llama-plugin-train that runs it.",
            )
        return control

    def state(self) -> dict[str, Any]:
        """How the run is."""
        return self._ask("GET", "/v1/run")

    def events(self, after: int = 0, limit: int = 1000) -> dict[str, Any]:
        """What happened after an event's number: `events`, and how many are `missing`."""
        return self._ask("GET", f"/v1/events?after={after}&limit={limit}")

    def tell(
        self,
        command: str,
        arguments: Mapping[str, Any] | None = None,
        *,
        at: int = 0,
        wait_seconds: float = 0.0,
    ) -> dict[str, Any]:
        """Tell the run something; gives what became of it within the time, or that it waits."""
        said = {
            "command": command,
            "arguments": dict(arguments or {}),
            "at": at,
            "wait_seconds": wait_seconds,
        }
        return self._ask("POST", "/v1/commands", json.dumps(said).encode(), wait_seconds)

    def _ask(
        self, method: str, path: str, body: bytes | None = None, wait_seconds: float = 0.0
    ) -> dict[str, Any]:
        place = urlsplit(self._address.url)
        connection = http.client.HTTPConnection(
            place.hostname or "", place.port, timeout=TIMEOUT_SECONDS + wait_seconds
        )
        headers = {"Authorization": f"Bearer {self._address.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            data = answer.read(MOST_BYTES)
        except ConnectionError:
            raise NotRunning(f"nobody listens on {self._address.url} any more") from None
        except (OSError, http.client.HTTPException) as error:
            raise ControlError(
                f"the run at {self._address.url} does not answer: {plain(error)}"
            ) from error
        finally:
            connection.close()
        return _understood(self._address.url, answer.status, data)


def _understood(url: str, status: int, data: bytes) -> dict[str, Any]:
    if status == 503:  # the server's own word, before anybody is listened to
        raise ControlError(
            f"the run at {url} has as many callers as it takes",
            remedy="Try again in a while: those who say nothing are hung up on.",
            code="too_many_connections",
        )
    try:
        said = json.loads(data)
        if not isinstance(said, dict):
            raise ValueError
        if status >= 400:
            error = said["error"]
            raise ControlError(str(error["message"]), code=str(error["code"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ControlError(
            f"what listens on {url} is no run: it answered {status} with {plain(data)!r}"
        ) from None
    return said
