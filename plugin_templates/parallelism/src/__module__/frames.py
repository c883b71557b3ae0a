"""Arrays on a socket: a length, the shape as JSON, the numbers. Nothing is trusted to be short."""

from __future__ import annotations

import json
import math
import socket
import struct

import numpy as np
from llama_core.errors import LlamaError
from numpy.typing import NDArray

MOST_BYTES = 1 << 31  # of one array
MOST_SHAPE_BYTES = 256
_LENGTHS = struct.Struct("<IQ")


class LineError(LlamaError):
    """The line to another rank is broken."""

    code = "line_broken"


def send(sock: socket.socket, array: NDArray[np.float32]) -> None:
    """One array."""
    plain = np.ascontiguousarray(array, np.float32)
    shape = json.dumps(list(plain.shape)).encode()
    try:
        sock.sendall(_LENGTHS.pack(len(shape), plain.nbytes) + shape)
        sock.sendall(plain.tobytes())
    except OSError as error:
        raise LineError(f"cannot send to another rank: {error}") from error


def receive(sock: socket.socket) -> NDArray[np.float32]:
    """One array of our own."""
    shape_bytes, num_bytes = _LENGTHS.unpack(exactly(sock, _LENGTHS.size))
    if shape_bytes > MOST_SHAPE_BYTES or num_bytes > MOST_BYTES:
        raise LineError(f"another rank announces {num_bytes} bytes: it is none of ours")
    shape = json.loads(exactly(sock, shape_bytes))
    if math.prod(shape) * 4 != num_bytes:
        raise LineError(f"another rank sent {num_bytes} bytes for the shape {shape}")
    return np.frombuffer(exactly(sock, num_bytes), np.float32).reshape(shape)


def exactly(sock: socket.socket, num_bytes: int) -> bytearray:
    """As many bytes, in memory that may be written to."""
    data = bytearray(num_bytes)
    view = memoryview(data)
    while view:
        try:
            count = sock.recv_into(view)
        except OSError as error:
            raise LineError(f"no answer from another rank: {error}") from error
        if count == 0:
            raise LineError("another rank has ended")
        view = view[count:]
    return data
