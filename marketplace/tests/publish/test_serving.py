"""The development server: what it gives, to whom, and plain pip against it."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
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
