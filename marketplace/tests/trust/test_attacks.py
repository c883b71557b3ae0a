"""Each way in which an index could lie, tried on a real server: refused, and nothing changed.

The attacker has the server, its mirror or the wire, and in some tests a key of its own; what it
does not have are the keys of the index.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.errors import IndexFailed, Untrusted
from llama_marketplace.index.layout import catalogue_path, prefixed, shard
from llama_marketplace.publish.repository import Repository
from llama_marketplace.sources import Source
from llama_marketplace.trust import keys
from llama_marketplace.trust.keys import KeyRing
from llama_marketplace.trust.roles import OWN, TOP
from operating import Operator, record, wheel

from llama_core.errors import LlamaError

NAME = "llama-plugin-min-p"
SHARD = catalogue_path(NAME)


class Victim:
    """A user who has read an index once, and what the attacker may do to its server."""

    def __init__(self, operator: Operator, url: str, source: Source) -> None:
        self.operator, self.url, self.source = operator, url, source
        self.before = self.state()

    def state(self) -> tuple[list[str], str]:
        found = [f"{each.name} {each.versions[0].version}" for each in self.source.summaries()]
        client = self.source.client
        assert client is not None
        timestamp = (client.metadata / "timestamp.json").read_bytes()
        return found, hashlib.sha256(timestamp).hexdigest()

    def refuses(self, words: str, kind: type[LlamaError] = Untrusted, **how: Any) -> None:
        """Refreshing says so in these words, and what was known stays known."""
        with pytest.raises(kind, match=words):
            self.source.refresh(**how)
        assert self.state() == self.before

    @property
    def metadata(self) -> Path:
        return self.operator.folder / "metadata"


@pytest.fixture
def victim(operator: Operator, serve: Any, source_of: Callable[..., Source]) -> Victim:
    operator.publish(record())
    url = serve(operator.folder)
    source = source_of(url, operator.root)
    source.refresh()
    return Victim(operator, url, source)


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    table = json.loads(file.read_bytes())
    change(table["signed"])
    file.write_text(json.dumps(table))


# Rollback: what was true once ---------------------------------------------------------------------


def test_an_older_timestamp_is_refused(victim: Victim) -> None:
    old = (victim.metadata / "timestamp.json").read_bytes()
    victim.operator.publish(record(version="1.1.0"))
    victim.source.refresh()
    victim.before = victim.state()
    (victim.metadata / "timestamp.json").write_bytes(old)
    victim.refuses("older than was seen")


def test_an_older_snapshot_under_a_newer_timestamp_is_refused(victim: Victim) -> None:
    """Not even the key of the timestamp is enough to go back."""
    from tuf.api.metadata import Metadata

    victim.operator.publish(record(version="1.1.0"))
    victim.source.refresh()
    victim.before = victim.state()
    file = victim.metadata / "timestamp.json"
    metadata: Any = Metadata.from_file(str(file))
    metadata.signed.version += 1
    metadata.signed.snapshot_meta.version -= 1
    (signer,) = KeyRing.open([victim.operator.keys / "timestamp.pem"]).for_role(
        "timestamp", metadata.signatures, 1
    )
    metadata.sign(signer)
    metadata.to_file(str(file))
    victim.refuses("older than was seen")


# Freeze: what is true no longer -------------------------------------------------------------------


def test_news_that_are_held_back_are_noticed_when_the_timestamp_runs_out(
    operator: Operator, serve: Any, source_of: Callable[..., Source]
) -> None:
    index = operator.open(datetime.now(UTC) - timedelta(days=8))
    index.add([record()])
    index.commit(operator.ring)
    source = source_of(serve(operator.folder), operator.root)
    with pytest.raises(Untrusted, match=r"no longer valid.*llama marketplace renew"):
        source.refresh()
    renewed = operator.open()
    renewed.roles.touch("timestamp")
    renewed.commit(operator.ring)
    assert source.refresh().changed


# Mix and match: parts that were never together ----------------------------------------------------


def test_a_shard_of_another_day_is_refused(victim: Victim) -> None:
    targets = victim.operator.folder / "targets"
    (old,) = (targets / "catalogue").glob("*.jsonl")
    stale = old.read_bytes()
    victim.operator.publish(record(version="1.1.0"))
    for file in (targets / "catalogue").glob("*.jsonl"):
        file.write_bytes(stale)
    victim.refuses("nobody signed for")


def test_metadata_of_another_version_is_refused(victim: Victim) -> None:
    victim.operator.publish(record(version="1.1.0"))
    newest = max(
        victim.metadata.glob("*.catalogue.json"), key=lambda file: int(file.name.split(".")[0])
    )
    older = newest.with_name(f"{int(newest.name.split('.')[0]) - 1}.catalogue.json")
    shutil.copyfile(older, newest)
    victim.refuses("older than was seen|does not serve a valid index")


# Wrong keys ---------------------------------------------------------------------------------------


def test_an_index_of_somebody_else_at_the_same_address_is_refused(
    victim: Victim, tmp_path: Path
) -> None:
    other = Operator(tmp_path / "other")
    other.publish(record(version="6.6.6"))
    shutil.rmtree(victim.operator.folder)
    shutil.copytree(other.folder, victim.operator.folder)
    victim.refuses("not signed by its own keys|older than was seen")


def test_a_root_that_is_not_the_pinned_one_is_refused(
    victim: Victim, tmp_path: Path, source_of: Callable[..., Source]
) -> None:
    other = Operator(tmp_path / "other")
    newcomer = source_of(victim.url, other.root, user="newcomer")
    with pytest.raises(Untrusted, match="is not the root that is pinned"):
        newcomer.refresh()


@pytest.mark.parametrize("role", ["timestamp", "snapshot", "targets", "catalogue"])
def test_a_changed_word_is_refused(victim: Victim, role: str) -> None:
    victim.operator.publish(record(version="1.1.0"), record(name="llama-plugin-new"))
    index = victim.operator.open()
    index.roles.touch(role)
    index.commit(victim.operator.ring)
    files = sorted(victim.metadata.glob(f"*{role}.json"), key=lambda file: file.stat().st_mtime_ns)
    edit(files[-1], lambda signed: signed.update(expires="2099-01-01T00:00:00Z"))
    victim.refuses("not signed by its own keys")


def test_a_key_that_was_taken_back_stays_out_though_the_refresh_that_said_so_failed(
    victim: Victim,
) -> None:
    """Who stole it holds the new root back from then on, and serves what it had signed."""
    timestamp = victim.metadata / "timestamp.json"
    stolen = timestamp.read_bytes()
    new = keys.create(victim.operator.keys / "new.pem")
    index = victim.operator.open()
    index.roles.set_keys("timestamp", [new], 1, victim.operator.ring)
    index.commit(victim.operator.ring)
    signed = timestamp.read_bytes()
    timestamp.write_bytes(b"{}")
    with pytest.raises(Untrusted, match="does not serve a valid index"):
        victim.source.refresh()
    root = victim.metadata / "2.root.json"
    root.rename(root.with_suffix(".hidden"))
    timestamp.write_bytes(stolen)
    victim.refuses("not signed by its own keys")
    timestamp.write_bytes(signed)
    victim.source.refresh()


def test_a_root_signed_by_its_new_keys_alone_is_refused(victim: Victim, tmp_path: Path) -> None:
    """Who has the server makes itself root, with all that root needs but the old root's word."""
    mallory = Operator(tmp_path / "mallory")
    from tuf.api.metadata import Metadata

    root: Any = Metadata.from_file(str(mallory.folder / "metadata" / "1.root.json"))
    root.signed.version = 2
    root.signatures.clear()
    for signer in mallory.ring.for_role("root", root.signed.roles["root"].keyids, 1):
        root.sign(signer)
    root.to_file(str(victim.metadata / "2.root.json"))
    victim.refuses("not signed by its own keys")


def test_too_few_of_the_root_keys_are_refused(
    tmp_path: Path, serve: Any, source_of: Callable[..., Source]
) -> None:
    folder = tmp_path / "two"
    publics = {name: [keys.create(folder / "keys" / f"{name}.pem")] for name in (*TOP, *OWN)}
    for role in ("root", "targets"):
        publics[role].append(keys.create(folder / "keys" / f"{role}-2.pem"))
    ring = KeyRing.open([folder / "keys"])
    Repository.create(folder / "index", publics, datetime.now(UTC), 2).commit(ring)
    first = folder / "index" / "metadata" / "1.root.json"
    root = hashlib.sha256(first.read_bytes()).hexdigest()
    source = source_of(serve(folder / "index"), root)
    assert source.refresh().changed
    index = Repository.open(folder / "index", datetime.now(UTC))
    index.roles.touch("root")
    index.commit(ring)
    newer = folder / "index" / "metadata" / "2.root.json"
    table = json.loads(newer.read_bytes())
    table["signatures"].pop()
    newer.write_text(json.dumps(table))
    with pytest.raises(Untrusted, match="not signed by its own keys"):
        source.refresh()


# Arbitrary packages -------------------------------------------------------------------------------


def test_a_record_that_its_publisher_did_not_sign_is_refused(victim: Victim) -> None:
    victim.operator.publish(record(version="1.1.0"))
    folder = victim.operator.folder / "targets" / "records" / "acme" / NAME
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes().replace(b"transform", b"miner of"))
    victim.source.refresh()
    with pytest.raises(Untrusted, match="nobody signed for"):
        victim.source.releases(NAME)


def test_a_publisher_cannot_sign_for_another_ones_plugin(
    victim: Victim, serve: Any, source_of: Callable[..., Source]
) -> None:
    """It has a key that is believed, below its own name; it writes into its own role directly."""
    operator = victim.operator
    index = operator.open()
    index.add_publisher("mallory", [keys.create(operator.keys / "mallory.pem")])
    index.roles.set_targets("mallory", {f"records/acme/{NAME}/9.0.0.json": b'{"schema":1}'})
    index.commit(operator.ring)
    victim.source.refresh()
    assert [each.version for each in victim.source.releases(NAME)] == ["1.0.0"]
    with pytest.raises(IndexFailed, match="acme's since"):
        operator.publish(record(publisher="mallory", version="9.0.0"))


def test_a_wheel_with_other_content_is_refused(victim: Victim, tmp_path: Path) -> None:
    file = wheel(tmp_path / "dist", version="1.1.0")
    victim.operator.publish(record(file, version="1.1.0"), wheels=(file,))
    victim.source.refresh()
    one = victim.source.releases(NAME)[0].files[0]
    served = victim.operator.folder / one.path
    good = served.read_bytes()
    for bad, words in (
        (good[:-1] + bytes([good[-1] ^ 1]), "not the file that was signed for"),
        (good[:-1], "not the file that was signed for"),
        (good + b"more", "sends more than"),
    ):
        served.write_bytes(bad)
        with pytest.raises(Untrusted, match=words):
            victim.source.fetch(one, tmp_path / "into")
        assert not list((tmp_path / "into").glob("*"))
    served.write_bytes(good)
    assert victim.source.fetch(one, tmp_path / "into").read_bytes() == good


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://127.0.0.1:22/x.whl",  # the index's own host, and not its port
        "http://files.pythonhosted.org/x.whl",  # not encrypted
        "https://files.pythonhosted.org@evil.example/x.whl",
        "https://files.pythonhosted.org.evil.example/x.whl",
        "http://[::1/x.whl",
        "http://127.0.0.1:port/x.whl",
    ],
)
def test_a_record_may_not_send_its_reader_anywhere(
    victim: Victim, tmp_path: Path, url: str
) -> None:
    """Such as to an address that gives a cloud machine's credentials away."""
    bad = record(version="1.1.0")
    file = bad.files[0].model_copy(update={"url": url})
    with pytest.raises(IndexFailed, match=r"may not send to|is not an address"):
        victim.source.fetch(file, tmp_path / "into")
    assert not list((tmp_path / "into").glob("*"))


# Endless data and slow retrieval ------------------------------------------------------------------


@contextmanager
def hostile(folder: Path, misbehave: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """Serves an index honestly but for its timestamp."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path.endswith("timestamp.json"):
                misbehave(self)
                return
            file = folder / self.path.lstrip("/")
            data = file.read_bytes() if file.is_file() else b""
            self.send_response(200 if data else 404)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        block_on_close = False

        def handle_error(self, *_: Any) -> None:
            """The client left, as it should."""

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while True:
        handler.wfile.write(b" " * 65536)


def endless_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        handler.wfile.write(b"X-More: " + b"x" * 1000 + b"\r\n")


def drip(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    for _ in range(1000):
        handler.wfile.write(b"{")
        time.sleep(0.05)


def drip_headers(handler: BaseHTTPRequestHandler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _ in range(1000):
        handler.wfile.write(b"x")
        time.sleep(0.05)


def silence(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(30)


def elsewhere(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "http://169.254.169.254/latest/")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def in_circles(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


@pytest.mark.parametrize(
    ("misbehave", "words"),
    [
        (endless, "sends more than it may"),
        (endless_headers, "cannot read|cannot be reached"),
        (drip, "too slow"),
        (drip_headers, "too slow"),
        (silence, "too slow"),
        (elsewhere, "may not send to"),
        (in_circles, "leads on more than"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_server_without_manners_is_left(
    operator: Operator, source_of: Callable[..., Source],
    misbehave: Callable[[BaseHTTPRequestHandler], None], words: str,
) -> None:  # fmt: skip
    operator.publish(record())
    with hostile(operator.folder, misbehave) as url:
        source = source_of(url, operator.root)
        began = time.monotonic()
        with pytest.raises(LlamaError, match=words):
            source.refresh(2.0)
        assert time.monotonic() - began < 20  # a watchdog: the deadline is two seconds


def test_metadata_larger_than_any_may_be_is_not_read(victim: Victim) -> None:
    (victim.metadata / "timestamp.json").write_bytes(b" " * (1 << 20))
    victim.refuses("sends more than it may")


def test_the_shard_of_a_name_is_the_same_for_everybody() -> None:
    """It is part of the format: whoever changed it would lose every name of every index."""
    assert (shard(NAME), shard("llama-plugin-cpu")) == ("02", shard("llama-plugin-cpu"))
    assert prefixed("names/02.json", "ab") == "names/ab.02.json"
