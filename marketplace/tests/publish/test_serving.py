"""The development server: what it gives, to whom, and plain pip against it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from llama_marketplace.index.simple import JSON_TYPE
from operating import Operator, record, wheel

NAME = "llama-plugin-min-p"


@pytest.fixture
def url(operator: Operator, serve: Any, tmp_path: Path) -> str:
    file = wheel(tmp_path / "dist")
    operator.publish(record(file, requires_python=">=3.11"), wheels=(file,))
    (operator.folder / "secret.pem").write_text("a key that somebody put in the wrong place")
    address: str = serve(operator.folder)
    return address


def ask(url: str, path: str, method: str = "GET", **headers: str) -> tuple[int, str, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=20)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers.get("Content-Type", ""), answer.read()
    connection.close()
    return found


def test_plain_pip_finds_and_checks_the_wheel(url: str, tmp_path: Path) -> None:
    env = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1"}
    env = {key: value for key, value in env.items() if not key.endswith("INDEX_URL")}
    command = [
        sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check",
        "--no-cache-dir", "--index-url", f"{url}simple/", "-d", str(tmp_path / "got"), NAME,
    ]  # fmt: skip
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (got,) = (tmp_path / "got").iterdir()
    assert got.read_bytes() == (tmp_path / "dist" / got.name).read_bytes()


def test_pip_resolves_by_the_metadata(url: str) -> None:
    asked: list[str] = []

    class Between(BaseHTTPRequestHandler):
        """Writes down what is asked of the index."""

        def do_GET(self) -> None:
            asked.append(self.path.rpartition("/")[2])
            status, kind, body = ask(url, self.path, Accept=self.headers.get("Accept", ""))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    env = {**os.environ, "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1"}
    env = {key: value for key, value in env.items() if not key.endswith("INDEX_URL")}
    with ThreadingHTTPServer(("127.0.0.1", 0), Between) as between:
        threading.Thread(target=between.serve_forever, daemon=True).start()
        command = [
            sys.executable, "-m", "pip", "install", "--no-deps", "--disable-pip-version-check",
            "--no-cache-dir", "--ignore-installed", "--dry-run", "--index-url",
            f"http://127.0.0.1:{between.server_address[1]}/simple/", NAME,
        ]  # fmt: skip
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        between.shutdown()
    assert done.returncode == 0, done.stderr
    assert "Would install llama-plugin-min-p-1.0.0" in done.stdout
    # What it takes is decided by then; some releases of pip fetch the wheel behind that.
    wheel = "llama_plugin_min_p-1.0.0-py3-none-any.whl"
    assert asked[:2] == ["", f"{wheel}.metadata"]


def test_metadata_lies_beside_the_wheel_and_is_made_again(url: str, operator: Operator) -> None:
    (beside,) = (operator.folder / "wheels").rglob("*.metadata")
    status, _, body = ask(url, f"/{beside.relative_to(operator.folder)}")
    with zipfile.ZipFile(beside.with_suffix("")) as archive:
        inside = archive.read("llama_plugin_min_p-1.0.0.dist-info/METADATA")
    assert (status, body) == (200, inside)
    digest = hashlib.sha256(body).hexdigest()
    page = ask(url, f"/simple/{NAME}/")[2].decode()
    assert f'data-core-metadata="sha256={digest}" data-dist-info-metadata="sha256=' in page
    (file,) = json.loads(ask(url, f"/simple/{NAME}/", Accept=JSON_TYPE)[2])["files"]
    assert file["core-metadata"] == file["dist-info-metadata"] == {"sha256": digest}
    beside.write_bytes(b"damaged")
    index = operator.open()
    index.derive_all()
    index.commit(operator.ring)
    assert beside.read_bytes() == inside


def test_nothing_is_said_of_metadata_that_lies_elsewhere(operator: Operator) -> None:
    operator.publish(record())  # whose wheel is not here
    page = (operator.folder / "simple" / NAME / "index.html").read_text()
    assert "metadata=" not in page


def test_pages_are_html_or_json_as_asked(url: str) -> None:
    status, kind, page = ask(url, f"/simple/{NAME}/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert b'data-requires-python="&gt;=3.11"' in page
    status, kind, page = ask(url, f"/simple/{NAME}/", Accept=f"{JSON_TYPE}, text/html;q=0.1")
    assert (status, kind) == (200, JSON_TYPE)
    table = json.loads(page)
    assert table["versions"] == ["1.0.0"]
    assert {"size", "upload-time", "hashes", "yanked"} <= set(table["files"][0])
    assert ask(url, "/simple/")[2].count(NAME.encode()) == 2


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/secret.pem",
        "/../keys/root.pem",
        "/metadata/../../keys/root.pem",
        "/metadata/%2e%2e/%2e%2e/keys/root.pem",
        "/metadata/..%2f..%2fkeys%2froot.pem",
        "/metadata",
        "/metadata/.hidden",
        "/wheels/%00",
        "//etc/passwd",
        "/simple/nothing/",
    ],
)
def test_what_is_no_part_of_the_index_is_not_there(url: str, path: str) -> None:
    assert ask(url, path)[0] == 404


def test_no_other_name_leads_here_and_nothing_can_be_written(url: str) -> None:
    path = "/metadata/timestamp.json"
    assert ask(url, path)[0] == 200
    assert ask(url, path, Host="rebound.example:80")[0] == 403
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(url, path, method)[0] == 501


def test_head_says_the_size_and_sends_nothing(url: str) -> None:
    status, kind, body = ask(url, "/metadata/timestamp.json", "HEAD")
    assert (status, kind, body) == (200, "application/json", b"")
