"""What a repository holds, in the hub's own words: the commit of a revision, and its files.

The answer comes from a server that nobody vouches for: it is bounded in bytes before it is parsed,
and every name, size and digest is checked before anything is done with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from llama_core.model.files.faults import ModelFileError, quoted
from llama_core.model.files.jsontext import parse_object
from llama_core.model.hub.download import RemoteFile, explained
from llama_core.model.hub.reference import HubError, HubSettings, Reference, is_safe_name

COMMIT = re.compile(r"[0-9a-f]{40}")
_MAX_BYTES = 64 << 20
_MAX_SIZE = 1 << 50


def remote_files(reference: Reference, settings: HubSettings) -> tuple[str, list[RemoteFile]]:
    """The commit that a revision stands for, and its files."""
    return read_listing(_ask(reference, settings), reference, settings)


def read_listing(
    answer: bytes, reference: Reference, settings: HubSettings
) -> tuple[str, list[RemoteFile]]:
    """The same, from what the hub answered."""
    try:
        said = parse_object(answer, Path("the answer"))
    except ModelFileError as error:
        raise _no_hub(settings, "; ".join(error.faults)) from None
    commit, siblings = said.get("sha"), said.get("siblings")
    if not isinstance(commit, str) or not COMMIT.fullmatch(commit):
        raise HubError(f"{settings.endpoint} names no valid commit for {reference}")
    if not isinstance(siblings, list) or not all(isinstance(one, dict) for one in siblings):
        raise _no_hub(settings, "it lists no files")
    names = [one.get("rfilename") for one in siblings]
    unsafe = [quoted(str(name)) for name in names if not is_safe_name(name)]
    if unsafe:
        raise HubError(
            f"{reference} has files with names that are not safe: {', '.join(unsafe[:5])}",
            remedy="Do not use this repository.",
        )
    return commit, [_file(one) for one in siblings]


def _file(said: dict[str, Any]) -> RemoteFile:
    """One file. Large ones are described by SHA-256, under `lfs`."""
    size, digest, large = said.get("size"), said.get("blobId"), said.get("lfs")
    if isinstance(large, dict):
        digest = large.get("sha256")
    if not isinstance(size, int) or size >= _MAX_SIZE:
        size = -1  # refused with the file's name
    return RemoteFile(said["rfilename"], size, str(digest)[:100])


def _ask(reference: Reference, settings: HubSettings) -> bytes:
    _check_endpoint(settings)
    from huggingface_hub import get_session
    from huggingface_hub.errors import HfHubHTTPError, HTTPError
    from huggingface_hub.utils import hf_raise_for_status

    revision = quote(reference.revision, safe="")
    url = f"{settings.endpoint}/api/models/{reference.repo}/revision/{revision}?blobs=true"
    answer = bytearray()
    try:
        with get_session().stream("GET", url, headers=settings.headers(), timeout=30) as response:
            hf_raise_for_status(response)
            for piece in response.iter_bytes():
                answer += piece
                if len(answer) > _MAX_BYTES:
                    raise _no_hub(settings, f"it says more than {_MAX_BYTES} bytes")
    except HfHubHTTPError as error:
        raise explained(error, str(reference), settings) from None
    except (HTTPError, OSError, ValueError) as error:  # an endpoint may be no URL
        raise HubError(
            f"cannot reach {settings.endpoint}: {str(error) or type(error).__name__}",
            remedy="Check the connection; what was pulled before runs with HF_HUB_OFFLINE=1.",
        ) from None
    return bytes(answer)


def _check_endpoint(settings: HubSettings) -> None:
    try:
        parts = urlsplit(settings.endpoint)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that can be none
        right = False
    if not right:
        raise HubError(
            f"the hub's address is {settings.endpoint!r}, and that is no URL",
            remedy="Set HF_ENDPOINT to one, as in https://huggingface.co, or leave it unset.",
        )


def _no_hub(settings: HubSettings, why: str) -> HubError:
    return HubError(
        f"{settings.endpoint} does not answer as a hub does: {why}",
        remedy="Check HF_ENDPOINT; a proxy may have answered instead.",
    )
