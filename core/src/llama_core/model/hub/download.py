"""One file from the hub into a blob of the cache: resumed after a cut, and checked by its digest.

A blob is named by its digest, so it appears only when it is whole and right. Until then it is a
partial file beside it, which the next attempt goes on with. HTTP, its errors and its proxies are
`huggingface_hub`'s.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from llama_core.model.hub.reference import HubError, HubSettings, Reference

ATTEMPTS = 5
_LONGEST_WAIT_SECONDS = 60.0
_CHUNK = 1 << 20
_DIGEST = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")

Progress = Callable[[str, int, int], None]
Sleep = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file as the hub describes it: the digest is SHA-256, or git's SHA-1 for small files."""

    name: str
    size: int
    digest: str

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest) or self.size < 0:
            raise HubError(f"the hub gives no valid size and digest for '{self.name}'")

    def new_hash(self) -> Any:
        """A hash that has seen what comes before the file's own bytes."""
        if len(self.digest) == 64:
            return hashlib.sha256()
        return hashlib.sha1(b"blob %d\0" % self.size, usedforsecurity=False)


def download(
    file: RemoteFile,
    reference: Reference,
    commit: str,
    settings: HubSettings,
    *,
    progress: Progress | None = None,
    sleep: Sleep = time.sleep,
) -> Path:
    """The blob of a file, downloaded unless it is there."""
    blobs = settings.cache / reference.folder / "blobs"
    blob = blobs / file.digest
    if blob.is_file() and blob.stat().st_size == file.size:
        return blob
    part = blobs / f"{file.digest}.llama-core.incomplete"
    with writing(file.name, settings):
        blobs.mkdir(parents=True, exist_ok=True)
        with _locked(settings, reference, file), part.open("a+b") as out:
            if not blob.is_file():
                _fill(out, file, reference, commit, settings, progress, sleep)
                _check(out, file, part)
                out.flush()
                os.fsync(out.fileno())
                part.replace(blob)
    return blob


@contextmanager
def writing(what: str, settings: HubSettings) -> Iterator[None]:
    """What the system refuses, a full disk above all, as the one error of the hub."""
    try:
        yield
    except OSError as error:
        raise HubError(
            f"cannot write {what} to {settings.cache}: {error.strerror or error}",
            remedy="Free some space or set HF_HUB_CACHE; what is there will be used to resume.",
        ) from error


def _locked(settings: HubSettings, reference: Reference, file: RemoteFile) -> Any:
    """So that two processes do not write one partial file."""
    from huggingface_hub.utils import WeakFileLock

    folder = settings.cache / ".locks" / reference.folder
    folder.mkdir(parents=True, exist_ok=True)
    return WeakFileLock(folder / f"{file.digest}.lock")


def _fill(
    out: IO[bytes],
    file: RemoteFile,
    reference: Reference,
    commit: str,
    settings: HubSettings,
    progress: Progress | None,
    sleep: Sleep,
) -> None:
    """Read until the file has its size, going on after cuts where the last attempt got further."""
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(reference.repo, file.name, revision=commit, endpoint=settings.endpoint)
    have = out.seek(0, os.SEEK_END)
    if have > file.size:
        have = out.truncate(0)
    left = ATTEMPTS
    while have < file.size:
        before = have
        try:
            for now in _read(out, url, have, file, settings):
                if progress is not None:
                    progress(file.name, now, file.size)
            why: Exception | str = "the connection was cut"
        except _TryAgain as again:
            why = again
        have = out.seek(0, os.SEEK_END)
        left = ATTEMPTS if have > before else left - 1
        if have < file.size:
            if left <= 0:
                raise HubError(
                    f"{file.name} could not be read beyond byte {have} of {file.size}: {why}",
                    remedy=f"Go on later with: llama pull {reference}",
                )
            wait = why.seconds if isinstance(why, _TryAgain) else 0.0
            sleep(wait or 0.5 * 2 ** (ATTEMPTS - left))


class _TryAgain(Exception):
    """A failure that may pass; the server may have said when."""

    def __init__(self, why: str, seconds: float = 0.0) -> None:
        super().__init__(why)
        self.seconds = seconds


def _read(out: IO[bytes], url: str, have: int, file: RemoteFile, settings: HubSettings) -> Any:
    """Append what the server sends from an offset on; yields how much there is."""
    from huggingface_hub import get_session
    from huggingface_hub.errors import HTTPError  # of the HTTP library that it uses

    headers = settings.headers()
    if have:
        headers["Range"] = f"bytes={have}-"
    try:
        with get_session().stream("GET", url, headers=headers, timeout=30) as response:
            _check_status(response, file.name, settings)
            if have and response.status_code != 206:
                have = out.truncate(0)
            for chunk in response.iter_bytes():  # as it comes: a cut loses nothing
                have += len(chunk)
                if have > file.size:
                    raise HubError(f"the server sends more of {file.name} than {file.size} bytes")
                out.write(chunk)
                yield have
    except HTTPError as error:
        raise _TryAgain(str(error) or type(error).__name__) from None


def _check_status(response: Any, name: str, settings: HubSettings) -> None:
    from huggingface_hub.errors import HfHubHTTPError
    from huggingface_hub.utils import hf_raise_for_status

    if response.status_code == 416:
        raise _TryAgain("the server has less of the file than is here")
    if response.status_code in (408, 429, 500, 502, 503, 504):
        seconds = retry_after(response.headers.get("Retry-After"))
        if seconds > _LONGEST_WAIT_SECONDS:
            raise HubError(
                f"the hub asks to wait {seconds:.0f} seconds before {name}",
                remedy="Try again later" + ("." if settings.token else ", or set HF_TOKEN."),
            )
        raise _TryAgain(f"the hub answers {response.status_code}", seconds)
    try:
        hf_raise_for_status(response)
    except HfHubHTTPError as error:
        raise explained(error, name, settings) from None


def retry_after(value: str | None) -> float:
    """The seconds in a Retry-After header; 0 where there are none."""
    return float(value) if value is not None and re.fullmatch(r"\d{1,9}", value) else 0.0


def _check(out: IO[bytes], file: RemoteFile, part: Path) -> None:
    seen = file.new_hash()
    out.seek(0)
    while chunk := out.read(_CHUNK):
        seen.update(chunk)
    if seen.hexdigest() != file.digest:
        part.unlink(missing_ok=True)
        raise HubError(
            f"{file.name} has the digest {seen.hexdigest()[:16]}…, not {file.digest[:16]}…",
            remedy="It was thrown away. Pull again; if it stays so, do not trust the source.",
        )


def explained(error: Exception, what: str, settings: HubSettings) -> HubError:
    """What an answer of the hub means, and what to do about it."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        RevisionNotFoundError,
    )

    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    login = "Set HF_TOKEN to a token of your account (from huggingface.co/settings/tokens)."
    if isinstance(error, RevisionNotFoundError):
        return HubError(f"{what} has no such revision", remedy="Leave it out to take 'main'.")
    if isinstance(error, EntryNotFoundError):
        return HubError(f"the hub no longer has {what}", remedy="Pull again for the newest files.")
    if isinstance(error, GatedRepoError) or status == 403:
        ask = f"Ask for access at {settings.endpoint} with your account"
        return HubError(
            f"{what} is only given to those who were granted access",
            remedy=f"{ask}, then pull again." if settings.token else f"{ask}. {login}",
        )
    if status == 401:
        remedy = "HF_TOKEN is not accepted; make a new one." if settings.token else login
        return HubError(f"{what} does not exist, or is private", remedy=f"Check the name. {remedy}")
    if status == 404:
        return HubError(f"{what} does not exist on {settings.endpoint}", remedy="Check the name.")
    if status == 429:
        seconds = retry_after(response.headers.get("Retry-After")) if response is not None else 0
        when = f"in {seconds:.0f} seconds" if seconds else "later"
        also = "" if settings.token else " HF_TOKEN raises the limit."
        return HubError("the hub has had too many requests", remedy=f"Try again {when}.{also}")
    return HubError(f"the hub cannot give {what}: {str(error).strip()[:300]}")
