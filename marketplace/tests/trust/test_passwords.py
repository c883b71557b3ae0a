"""An index that lets only those read whom it knows: a real server that asks for Basic."""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace import trusting
from llama_marketplace.errors import IndexFailed
from llama_marketplace.sources import Source
from llama_marketplace.trust import passwords
from operating import Operator, record, wheel
from tuf.api.exceptions import DownloadError

from llama_core.errors import ConfigError

RIGHT = "Basic " + base64.b64encode(b"ada:open sesame#1").decode()
MACHINE = 'machine 127.0.0.1 login ada password "open sesame#1"\n'


class Guarded:
    """The server's address, and what it was told of who reads."""

    def __init__(self, folder: Path) -> None:
        told: list[str | None] = []

        class Handler(SimpleHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                told.append(self.headers.get("Authorization"))
                if told[-1] == RIGHT:
                    super().do_GET()
                    return
                self.send_response(401)
                self.send_header("WWW-Authenticate", 'Basic realm="plugins"')
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self.told = told
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=folder))
        self.url = f"http://127.0.0.1:{self.server.server_port}/"


@pytest.fixture
def guarded(operator: Operator, tmp_path: Path) -> Iterator[Guarded]:
    its = wheel(tmp_path)
    operator.publish(record(its), wheels=(its,))
    found = Guarded(operator.folder)
    threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True).start()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def source(guarded: Guarded, operator: Operator, source_of: Callable[..., Source]) -> Source:
    return source_of(guarded.url, operator.root)


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """`known(text)`: what the user's file says."""
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def write(text: str) -> Path:
        file = tmp_path / ".netrc"
        file.write_text(text)
        file.chmod(0o600)
        return file

    return write


def test_who_is_known_reads_an_index_and_its_wheels(
    guarded: Guarded, source: Source, known: Callable[[str], Path], tmp_path: Path
) -> None:
    known(MACHINE)
    source.refresh()
    (plugin,) = source.summaries()
    (found,) = source.releases(plugin.name)
    its = source.fetch(found.files[0], tmp_path / "into")
    assert its.stat().st_size == found.files[0].size
    # Nothing is said before the server asks, and then it need not ask again for each file.
    assert guarded.told[0] is None
    assert guarded.told.count(None) < len(guarded.told) / 2


def test_another_file_may_be_named(
    source: Source, known: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = known(MACHINE)
    monkeypatch.setenv("NETRC", str(file.rename(file.with_name("other"))))
    source.refresh()
    assert list(source.summaries())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "has none for it; add the line: machine 127.0.0.1 login NAME password PASSWORD"),
        ("machine elsewhere login ada password x\n", "has none for it"),
        ("default login ada password x\n", "has none for it"),
        ("machine 127.0.0.1 login ada password wrong\n", r"\.netrc are refused"),
        ("machine 127.0.0.1 logon ada\n", "bad follower token 'logon'"),
    ],
)
def test_who_is_not_known_is_told_what_to_write(
    source: Source, known: Callable[[str], Path], text: str, words: str
) -> None:
    known(text)
    with pytest.raises(IndexFailed, match=words):
        source.refresh()


def test_without_a_file_it_says_where_one_would_be(
    source: Source, known: Callable[[str], Path]
) -> None:
    known("").unlink()
    with pytest.raises(IndexFailed, match=r"\.netrc has none for it"):
        source.refresh()


def test_a_password_is_not_sent_in_the_clear(known: Callable[[str], Path]) -> None:
    known("machine plugins.example login ada password secret\n")
    with pytest.raises(DownloadError, match="not encrypted; it is not sent") as caught:
        passwords.authorization("http://plugins.example/", "Basic realm=x")
    assert "secret" not in str(caught.value)
    assert passwords.authorization("https://plugins.example/", "Basic").startswith("Basic ")


@pytest.mark.parametrize("asked", ["Negotiate", "", "Bearer realm=x", "\x1b[2J"])
def test_other_ways_to_ask_are_named(known: Callable[[str], Path], asked: str) -> None:
    known(MACHINE)
    with pytest.raises(DownloadError, match="only Basic is known here") as caught:
        passwords.authorization("https://127.0.0.1/", asked)
    assert "\x1b" not in str(caught.value)


def test_an_address_with_a_password_is_not_kept() -> None:
    with pytest.raises(ConfigError, match="the address holds a name or a password") as caught:
        trusting.proposed("corp", "https://ada:secret@plugins.example/", "ab" * 32, ())
    assert "secret" not in f"{caught.value} {caught.value.remedy}"
    assert "machine plugins.example" in str(caught.value.remedy)
