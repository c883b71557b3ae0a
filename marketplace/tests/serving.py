"""Serves the folders it is told of, one a line, each at an address of its own; an empty line ends
all of them, with the connections that clients have kept."""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

from llama_marketplace.publish.serving import IndexServer


class Ending(IndexServer):
    """One that can be ended as if its process had been killed."""

    def __init__(self, folder: Path) -> None:
        self.kept: list[socket.socket] = []
        super().__init__(folder, "127.0.0.1", 0)

    def process_request(self, request: Any, client_address: Any) -> None:
        self.kept.append(request)
        super().process_request(request, client_address)

    def end(self) -> None:
        self.shutdown()
        self.server_close()
        for each in self.kept:
            with suppress(OSError):  # closed already
                each.shutdown(socket.SHUT_RDWR)


def main() -> None:
    running: list[Ending] = []
    for line in sys.stdin:
        if line.strip():
            server = Ending(Path(line.strip()))
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
            running.append(server)
            print(server.url, flush=True)
            continue
        for each in running:
            each.end()
        running.clear()
        print("ended", flush=True)


if __name__ == "__main__":
    main()
