"""How an engine in another process is spoken to: length-prefixed JSON, and who may speak.

Every message is one object of known fields; nothing that is received is ever executed, imported or
unpickled. Both ends prove with HMAC-SHA256 that they hold the key of this boot before the first
message. It knows sockets and the shape of requests and updates, and no engine.
"""

from __future__ import annotations

import hmac
import json
import math
import secrets
import socket
import struct
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from llama_core.contracts.postprocessor import Piece
from llama_core.engine import faults
from llama_core.engine.request import Link, Logprob, Params, Request, Update, Usage, Use
from llama_core.errors import LlamaError

MOST_BYTES = 64 << 20  # of one message
HEAD = struct.Struct(">I")
NONCE_BYTES = 32
DIGEST_BYTES = 32
KEY_BYTES = 32

T = TypeVar("T")
Message = dict[str, Any]


class WireError(LlamaError):
    """What came over the wire is not what may come."""

    code = "wire_invalid"


# ----------------------------------------------------------------------- handshake


def greet(connection: socket.socket, key: bytes) -> None:
    """The host's half: challenge, check, answer."""
    ours = secrets.token_bytes(NONCE_BYTES)
    connection.sendall(ours)
    theirs = receive_exactly(connection, NONCE_BYTES)
    if not hmac.compare_digest(
        receive_exactly(connection, DIGEST_BYTES), _proof(key, b"worker", ours, theirs)
    ):
        raise WireError("whoever connected does not hold the key of this boot")
    connection.sendall(_proof(key, b"host", theirs, ours))


def answer(connection: socket.socket, key: bytes) -> None:
    """The worker's half."""
    theirs = receive_exactly(connection, NONCE_BYTES)
    ours = secrets.token_bytes(NONCE_BYTES)
    connection.sendall(ours + _proof(key, b"worker", theirs, ours))
    if not hmac.compare_digest(
        receive_exactly(connection, DIGEST_BYTES), _proof(key, b"host", ours, theirs)
    ):
        raise WireError("whoever listens does not hold the key of this boot")


def _proof(key: bytes, role: bytes, first: bytes, second: bytes) -> bytes:
    return hmac.digest(key, role + first + second, "sha256")


# ------------------------------------------------------------------------- framing


def pack(message: Message) -> bytes:
    data = json.dumps(message, separators=(",", ":"), allow_nan=False).encode()
    if len(data) > MOST_BYTES:
        raise WireError(f"a message may have {MOST_BYTES} bytes, and has {len(data)}")
    return HEAD.pack(len(data)) + data


class Unpacker:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        self._buffer += data
        messages: list[Message] = []
        at = 0
        while len(self._buffer) - at >= HEAD.size:
            (length,) = HEAD.unpack_from(self._buffer, at)
            if length > MOST_BYTES:
                raise WireError(f"a message may have {MOST_BYTES} bytes, and claims {length}")
            end = at + HEAD.size + length
            if len(self._buffer) < end:
                break
            messages.append(_parse(bytes(self._buffer[at + HEAD.size : end])))
            at = end
        del self._buffer[:at]
        return messages


def receive_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise WireError("the other side hung up")
        data += more
    return data


def _parse(data: bytes) -> Message:
    try:
        message = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise WireError(f"a message is not JSON: {error}") from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise WireError("a message is not an object with a type")
    return message


# --------------------------------------------------------------- requests, updates


def from_request(request: Request) -> Message:
    params = request.params
    return {
        "id": request.id,
        "prompt": list(request.prompt),
        "answer": list(request.answer),
        "tenant": request.tenant,
        "priority": request.priority,
        "deadline_seconds": request.deadline_seconds,
        "adapter": request.adapter,
        "pooling": request.pooling,
        "params": {
            "max_tokens": params.max_tokens,
            "n": params.n,
            "transforms": [_from_link(t) for t in params.transforms],
            "sampler": _from_link(params.sampler),
            "seed": params.seed,
            "stop": list(params.stop),
            "stop_tokens": sorted(params.stop_tokens),
            "ignore_eos": params.ignore_eos,
            "include_stop": params.include_stop,
            "logprobs": params.logprobs,
            "prompt_logprobs": params.prompt_logprobs,
            "processed_logprobs": params.processed_logprobs,
            "postprocessors": [_from_use(p) for p in params.postprocessors],
        },
    }


def to_request(message: Any) -> Request:
    """Types are checked here, bounds by the engine that takes the request."""
    fields = _fields(message, Request)
    params = _fields(fields.pop("params", None), Params)
    params["transforms"] = tuple(_to_link(link) for link in _list(params["transforms"], list))
    params["postprocessors"] = tuple(_to_use(use) for use in _list(params["postprocessors"], list))
    params["sampler"] = _to_link(params["sampler"])
    params["stop"] = tuple(_list(params["stop"], str))
    params["stop_tokens"] = frozenset(_list(params["stop_tokens"], int))
    fields["prompt"] = tuple(_list(fields["prompt"], int))
    fields["answer"] = tuple(_list(fields["answer"], int))
    return Request(params=Params(**params), **fields)


def from_update(update: Update) -> Message:
    """Fields at their default are left out: most updates are one token."""
    message: Message = {"id": update.request_id}
    if update.choice:
        message["choice"] = update.choice
    if update.tokens:
        message["tokens"] = list(update.tokens)
    if update.pieces:
        message["pieces"] = [[p.text, p.channel, dict(p.data), p.stop] for p in update.pieces]
    if update.logprobs:
        message["logprobs"] = [_from_logprob(p) for p in update.logprobs]
    if update.prompt_logprobs is not None:
        message["prompt_logprobs"] = [
            None if p is None else _from_logprob(p) for p in update.prompt_logprobs
        ]
    if update.hidden is not None:
        message["hidden"] = update.hidden.tolist()
    if update.finish is not None:
        message["finish"] = update.finish
        message["stopped_by"] = update.stopped_by
    if update.error is not None:
        message["error"] = from_error(update.error)
    if update.usage is not None:
        usage = update.usage
        message["usage"] = [usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens]
    if update.last:
        message["last"] = True
    return message


def to_update(message: Any) -> Update:
    try:
        update = Update(
            message["id"],
            message.get("choice", 0),
            message.get("tokens", ()),
            [Piece(*piece) for piece in message.get("pieces", ())],
            [_to_logprob(p) for p in message.get("logprobs", ())],
            finish=message.get("finish"),
            stopped_by=message.get("stopped_by"),
            last=message.get("last", False),
        )
        if "prompt_logprobs" in message:
            update.prompt_logprobs = [
                None if p is None else _to_logprob(p) for p in message["prompt_logprobs"]
            ]
        if "hidden" in message:
            import numpy as np

            update.hidden = np.array(message["hidden"], np.float32)
        if "error" in message:
            update.error = to_error(message["error"])
        if "usage" in message:
            update.usage = Usage(*message["usage"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise WireError(f"an update is malformed: {error!r}") from error
    return update


def from_error(error: LlamaError) -> Message:
    message: Message = {**error.to_dict(), "message": error.message}
    if isinstance(error, faults.QueueFull):
        message["retry_after_seconds"] = error.retry_after_seconds
    return message


_ERRORS: dict[str, type[LlamaError]] = {
    kind.code: kind
    for kind in vars(faults).values()
    if isinstance(kind, type) and issubclass(kind, LlamaError)
}


def to_error(message: Mapping[str, Any]) -> LlamaError:
    """An error of the class it had, where its code is one of the engine's."""
    kind = _ERRORS.get(message["code"], LlamaError)
    text, remedy = str(message["message"]), message.get("remedy")
    if issubclass(kind, faults.QueueFull):
        return kind(text, retry_after_seconds=float(message["retry_after_seconds"]))
    if issubclass(kind, faults.InvalidRequest):
        return kind(text, param=message.get("param"), remedy=remedy)
    error = kind(text, remedy=remedy)
    error.code = str(message["code"])
    return error


def _from_link(link: object) -> list[Any]:
    if not isinstance(link, Link):
        raise _stays_here(link, Link)
    return [link.name, dict(link.options)]


def _from_use(use: object) -> list[Any]:
    if not isinstance(use, Use):
        raise _stays_here(use, Use)
    return [use.name, dict(use.options), use.required]


def _stays_here(part: object, kind: type) -> WireError:
    return WireError(
        f"a {type(part).__name__} cannot travel to a worker process",
        remedy=f"Give it by name and options, as a {kind.__name__}",
    )


def _to_link(message: Any) -> Link:
    if (
        not isinstance(message, list)
        or len(message) != 2
        or not isinstance(message[0], str)
        or not isinstance(message[1], dict)
    ):
        raise WireError(f"not a name with options: {message!r}")
    return Link(message[0], message[1])


def _to_use(message: Any) -> Use:
    if not isinstance(message, list) or len(message) != 3 or type(message[2]) is not bool:
        raise WireError(f"not a name with options and a mark: {message!r}")
    link = _to_link(message[:2])
    return Use(link.name, link.options, message[2])


def _from_logprob(p: Logprob) -> list[Any]:
    return [p.token, _number(p.logprob), p.rank, [[t, _number(x)] for t, x in p.top]]


def _to_logprob(message: Any) -> Logprob:
    token, value, rank, top = message
    return Logprob(token, _float(value), rank, [(t, _float(x)) for t, x in top])


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None  # JSON has no infinity


def _float(value: float | None) -> float:
    return -math.inf if value is None else float(value)


def _fields(message: Any, kind: Callable[..., Any]) -> Message:
    names = set(cast(Any, kind).__slots__)
    if not isinstance(message, dict) or set(message) != names:
        raise WireError(f"a {kind.__name__} needs the fields {', '.join(sorted(names))}")
    return dict(message)


def _list(value: Any, kind: type[T] | None = None) -> list[T]:
    if not isinstance(value, list) or (
        kind is not None and not all(isinstance(each, kind) for each in value)
    ):
        raise WireError(f"not a list of {kind.__name__ if kind else 'entries'}: {value!r}")
    return value
