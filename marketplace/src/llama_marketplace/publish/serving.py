"""A file server for an index, to try it before it is copied to a real one.

Serves one folder, read only, to this machine unless the operator says otherwise; pages for pip are
given as JSON to those who ask for it. Hides what is not part of an index. Any file server does as
well, without the JSON pages.
"""

from __future__ import annotations

import os
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from llama_core.web.bind import is_loopback
from llama_marketplace.index.simple import HTML, JSON, JSON_TYPE

# One path segment of an index; whatever else is asked for is not there.
_SEGMENT = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9_.+-]*")
_PARTS = ("metadata", "targets", "wheels", "simple")
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
}
IDLE_SECONDS = 30.0
CHUNK_BYTES = 256 << 10


class Handler(BaseHTTPRequestHandler):
    """GET and HEAD of the files of an index."""

    protocol_version = "HTTP/1.1"
    server_version = "llama-marketplace"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: IndexServer
    # A header and a body in two packets would wait for each other's acknowledgement, 40 ms a file.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if not self._is_ours(self.headers.get("Host", "")):
            self.send_error(403, "This host name is not mine")
            return
        found = self._file()
        if found is None:
            self.send_error(404, "There is no such file in the index")
            return
        file, kind = found
        try:
            opened = file.open("rb")
        except OSError:
            self.send_error(404, "There is no such file in the index")
            return
        with opened:
            size = os.fstat(opened.fileno()).st_size
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(size))
            self.send_header("X-Content-Type-Options", "nosniff")
            self.end_headers()
            while body and size > 0 and (data := opened.read(min(CHUNK_BYTES, size))):
                self.wfile.write(data)
                size -= len(data)

    def _file(self) -> tuple[Path, str] | None:
        parts = [each for each in unquote(urlsplit(self.path).path).split("/") if each]
        if not parts or parts[0] not in _PARTS or not all(map(_SEGMENT.fullmatch, parts)):
            return None
        file = self.server.folder.joinpath(*parts)
        if parts[0] == "simple" and "." not in parts[-1]:
            wants_json = JSON_TYPE in self.headers.get("Accept", "")
            return file / (JSON if wants_json else HTML), JSON_TYPE if wants_json else _TYPES[
                ".html"
            ]
        return file, _TYPES.get(file.suffix, "application/octet-stream")

    def _is_ours(self, host: str) -> bool:
        """On loopback no other name may lead here, as a rebound name of a web page would."""
        if not is_loopback(self.server.host):
            return True
        name = urlsplit(f"//{host}").hostname or ""
        return is_loopback(name)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's word
        if self.server.verbose:
            sys.stderr.write(f"{time.strftime('%H:%M:%S')} {format % args}\n")


class IndexServer(ThreadingHTTPServer):
    """Serves one index; port 0 takes any that is free."""

    daemon_threads = True

    def __init__(self, folder: Path, host: str, port: int, *, verbose: bool = False) -> None:
        self.folder = folder
        self.host = host
        self.verbose = verbose
        super().__init__((host, port), Handler)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.server_address[1]}/"
