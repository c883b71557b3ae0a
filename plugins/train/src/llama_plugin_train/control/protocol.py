"""The messages between a run and whoever steers it: what is read is checked here, and nowhere else.

`docs/reference/train-control.md` describes them. A message that is not understood is refused with
the reason; what it asks of the run is checked by the command that it becomes.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from llama_core.errors import LlamaError, did_you_mean, plain, sentence
from llama_plugin_train.loop.commands import KINDS, Command, make

PROTOCOL, VERSION = "llama-train-control", 1
MESSAGE_BYTES = 64 * 1024
MOST_STEPS = 1 << 40
MOST_WAIT_SECONDS = 600.0

_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class MessageError(LlamaError):
    """A message that a run does not understand; `param` names the field, `id` the message."""

    code = "message_invalid"
    id: str | None = None

    def __init__(self, message: str, *, remedy: str | None = None, param: str | None = None):
        super().__init__(message, remedy=remedy)
        self.param = param


@dataclass(frozen=True, slots=True)
class Order:
    """A command with where and when: `at` is the step after which it takes effect at the soonest,
    `wait_seconds` how long a caller over HTTP stays for the answer."""

    command: Command
    at: int = 0
    wait_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a command: it took effect before the step after `step`, or `error` says why
    it did not."""

    id: str
    command: str
    arguments: Mapping[str, Any]
    step: int
    error: str | None = None
    code: str | None = None

    def to_json(self) -> dict[str, Any]:
        told = {
            "reply": "done" if self.error is None else "refused",
            "id": self.id,
            "command": self.command,
            "arguments": dict(self.arguments),
            "step": self.step,
        }
        if self.error is not None:
            told["error"] = {"code": self.code, "message": self.error}
        return told


def read_order(data: bytes | str, *, waits: bool = True) -> Order:
    """The order that a message is; on a stream nobody `waits` for its answer."""
    said = _object(data)
    given = said.get("id")
    if given is not None and not (isinstance(given, str) and _ID.fullmatch(given)):
        raise MessageError(
            "'id' is 1 to 64 letters, digits, dots, underscores or hyphens", param="id"
        )
    try:
        return _order(said, given or secrets.token_hex(8), waits)
    except MessageError as error:
        error.id = given
        raise


def _order(said: Mapping[str, Any], given: str, waits: bool) -> Order:
    _known(said, ("command", "arguments", "id", "at", *["wait_seconds"] * waits))
    name, arguments = said.get("command"), said.get("arguments", {})
    if not isinstance(name, str):
        raise MessageError("a message names its command in 'command'", param="command")
    if not isinstance(arguments, dict):
        raise MessageError("'arguments' is an object", param="arguments")
    at = said.get("at", 0)
    if type(at) is not int or not 0 <= at <= MOST_STEPS:
        raise MessageError(f"'at' is a step, from 0 to {MOST_STEPS}", param="at")
    wait = said.get("wait_seconds", 0)
    if type(wait) not in (int, float) or not 0 <= wait <= MOST_WAIT_SECONDS:
        raise MessageError(
            f"'wait_seconds' is a number from 0 to {MOST_WAIT_SECONDS:g}", param="wait_seconds"
        )
    try:
        command = make(name, arguments, given)
    except LlamaError as error:
        param = "arguments" if name in KINDS else "command"
        raise MessageError(error.message, remedy=error.remedy, param=param) from None
    return Order(command, at, float(wait))


def _object(data: bytes | str) -> dict[str, Any]:
    try:
        said = json.loads(data, parse_constant=_no_number, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"a message is one JSON object: {plain(error)}") from None
    if not isinstance(said, dict):
        raise MessageError(f"a message is one JSON object, not {plain(json.dumps(said))}")
    return said


def _no_number(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def _once(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"'{plain(key)}' is said twice")
        found[key] = value
    return found


def _known(said: Mapping[str, Any], fields: tuple[str, ...]) -> None:
    for key in said:
        if key not in fields:
            raise MessageError(
                f"a message has no '{plain(key)}'",
                remedy=sentence(did_you_mean(key, fields) or f"it has {', '.join(fields)}"),
                param=plain(key),
            )
