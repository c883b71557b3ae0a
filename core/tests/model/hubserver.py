"""A hub on this machine: an HTTP server that speaks as much of the hub's protocol as pulling needs.

What goes wrong is set by the test: connections cut after so many bytes, wrong content, statuses.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

COMMIT = "a" * 40


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Hub:
    """One repository, and how the server behaves."""

    files: dict[str, bytes]
    repo: str = "org/tiny"
    large: int = 100  # from this size on a file is described by SHA-256, as LFS files are
    token: str | None = None  # wanted from everyone who asks
    refuse: dict[str, tuple[int, dict[str, str]]] = field(default_factory=dict)  # by path's end
    refuse_times: int = 1 << 30
    cuts: list[int] = field(default_factory=list)  # bytes until each of the next cuts
    sent_instead: dict[str, bytes] = field(default_factory=dict)
    ignore_ranges: bool = False
    commit: str = COMMIT
    names: dict[str, str] = field(default_factory=dict)  # what the listing calls a file
    url: str = ""
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    agents: set[str | None] = field(default_factory=set)  # what those who ask call themselves

    def listing(self) -> dict[str, object]:
        siblings = []
        for name, data in self.files.items():
            one: dict[str, object] = {
                "rfilename": self.names.get(name, name),
                "size": len(data),
                "blobId": git_sha1(data),
            }
            if len(data) >= self.large:
                one["lfs"] = {"sha256": sha256(data), "size": len(data), "pointerSize": 130}
            siblings.append(one)
        return {"id": self.repo, "modelId": self.repo, "sha": self.commit, "siblings": siblings}


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """The hub at `hub.url` on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path.split("?")[0])
            authorization = self.headers.get("Authorization")
            hub.agents.add(self.headers.get("User-Agent"))
            hub.asked.append((path, self.headers.get("Range"), authorization))
            for end, (status, headers) in hub.refuse.items():
                if path.endswith(end) and hub.refuse_times > 0:
                    hub.refuse_times -= 1
                    return self.say(status, b"{}", headers)
            if hub.token is not None and authorization != f"Bearer {hub.token}":
                return self.say(401, b"{}", {"X-Error-Code": "GatedRepo"})
            if path.startswith(f"/api/models/{hub.repo}"):
                revision = path.rpartition("/revision/")[2]
                if revision not in ("main", hub.commit, "v1"):
                    return self.say(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
                return self.say(200, json.dumps(hub.listing()).encode(), {})
            prefix = f"/{hub.repo}/resolve/{hub.commit}/"
            if path.startswith(prefix) and (name := path.removeprefix(prefix)) in hub.files:
                return self.give(hub.sent_instead.get(name, hub.files[name]))
            return self.say(404, b"{}", {"X-Error-Code": "RepoNotFound"})

        def give(self, data: bytes) -> None:
            start = 0
            asked = self.headers.get("Range")
            if asked and not hub.ignore_ranges:
                start = int(asked.removeprefix("bytes=").removesuffix("-"))
            body = data[start:]
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if hub.cuts and len(body) > hub.cuts[0]:
                self.wfile.write(body[: hub.cuts.pop(0)])
                self.wfile.flush()
                self.close_connection = True
                self.connection.shutdown(2)
                return
            self.wfile.write(body)

        def say(self, status: int, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that went away is part of the tests."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
