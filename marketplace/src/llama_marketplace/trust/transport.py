"""Bytes over HTTP, of which none is believed: every download has a bound in size and in time.

A server may send without end, a byte a minute, or send the reader to another host. Reading
happens on a thread of its own, so that the deadline holds whatever the connection is waiting for,
a name or a header too. Knows nothing of signatures.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from tuf.api.exceptions import DownloadError, DownloadHTTPError, SlowRetrievalError
from tuf.ngclient import FetcherInterface

from llama_marketplace.trust import passwords

CHUNK_BYTES = 256 << 10
CHUNKS_AHEAD = 8
MAX_REDIRECTS = 3
CONNECT_SECONDS = 10.0
AGENT = "llama-marketplace"
Chunks = queue.Queue[bytes | BaseException | None]  # None: that was all


def place(url: str) -> str:
    """Host and port of an address: what a reader has agreed to talk to."""
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or (443 if parts.scheme == 'https' else 80)}"


class Unreachable(DownloadError):
    """No server answered: the machine is offline, or the index is."""


class Transport(FetcherInterface):
    """Downloads until a deadline, for all of them together."""

    def __init__(self, places: frozenset[str]) -> None:
        self._places = places
        self._counting = threading.Lock()
        self._answers: dict[str, str] = {}  # by place: what it is told of who is reading
        self.renew(0.0)

    def renew(self, deadline_seconds: float) -> None:
        """Another batch of downloads: the clock and the count of bytes start again."""
        self.num_bytes = 0
        self._seconds = deadline_seconds
        self._until = time.monotonic() + deadline_seconds

    def _fetch(self, url: str) -> Iterator[bytes]:
        chunks: Chunks = queue.Queue(CHUNKS_AHEAD)
        gone = threading.Event()
        reader = threading.Thread(target=self._read, args=(url, chunks, gone), daemon=True)
        reader.start()
        try:
            while True:
                item = self._next(chunks, url)
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                with self._counting:
                    self.num_bytes += len(item)
                yield item
        finally:
            gone.set()

    def _next(self, chunks: Chunks, url: str) -> bytes | BaseException | None:
        left = self._until - time.monotonic()
        try:
            if left > 0:  # a server that always has one more byte would never make us wait
                return chunks.get(timeout=left)
        except queue.Empty:
            pass
        raise SlowRetrievalError(f"{url} was not here after {self._seconds:g} seconds")

    def _read(self, url: str, chunks: Chunks, gone: threading.Event) -> None:
        def put(item: bytes | BaseException | None) -> bool:
            while not gone.is_set():
                try:
                    chunks.put(item, timeout=0.1)
                except queue.Full:
                    continue
                return True
            return False

        try:
            response = self._open(url)
            try:
                # read1 gives what is there; read would wait for a whole chunk of a slow server.
                # Nothing is unpacked on the way, so that a bound on bytes is a bound on memory.
                while data := response.read1(CHUNK_BYTES, decode_content=False):
                    if not put(data):
                        response.close()
                        return
            finally:
                response.release_conn()
            put(None)
        except DownloadError as error:
            put(error)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            put(Unreachable(f"{url}: {_reason(error)}"))
        except ValueError as error:
            put(DownloadError(f"{url} is not an address: {error}"))
        except Exception as error:  # noqa: BLE001 - it must reach the one who waits
            put(error)

    def _open(self, url: str) -> Any:
        for _ in range(MAX_REDIRECTS + 1):
            if place(url) not in self._places:
                raise DownloadError(f"{url} is where this index may not send to")
            response = self._request(url)
            if response.status in (301, 302, 303, 307, 308):
                onward = urljoin(url, response.headers.get("Location", ""))
                response.close()
                if urlsplit(url).scheme == "https" and urlsplit(onward).scheme != "https":
                    raise DownloadError(f"{url} leads on to {onward}, which is not encrypted")
                url = onward
                continue
            if response.status != 200:
                response.close()
                raise DownloadHTTPError(f"{url}: HTTP status {response.status}", response.status)
            return response
        raise DownloadError(f"{url} leads on more than {MAX_REDIRECTS} times")

    def _request(self, url: str) -> Any:
        """One answer; a server that asks who is reading is told, if that is known."""
        at = place(url)
        while True:
            told = {"Authorization": self._answers[at]} if at in self._answers else {}
            response = _pool(_proxy(url)).request(
                "GET",
                url,
                preload_content=False,
                redirect=False,
                retries=False,
                headers={"User-Agent": AGENT, "Accept-Encoding": "identity", **told},
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=max(self._seconds, 1.0)),
            )
            if response.status != 401:
                return response
            response.close()
            if told:
                why = f"{url}: the name and password of {passwords.file()} are refused"
                raise DownloadHTTPError(why, 401)
            asked = response.headers.get("WWW-Authenticate", "")
            self._answers[at] = passwords.authorization(url, asked)


def _reason(error: BaseException) -> str:
    inner = getattr(error, "reason", None) or error
    return str(inner).split(": ", 1)[-1]


def _proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.hostname or ""):
        return None
    return getproxies().get(parts.scheme)


@cache
def _pool(proxy: str | None) -> urllib3.PoolManager:
    if proxy is None:
        return urllib3.PoolManager(maxsize=8)
    return urllib3.ProxyManager(proxy, maxsize=8)
