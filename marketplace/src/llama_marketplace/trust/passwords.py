"""The name and password that a private index asks for, from `~/.netrc`, as for curl, pip and uv.

They go to the very host they stand for, after it has asked, and over a network only encrypted.
"""

from __future__ import annotations

import base64
import os
from netrc import NetrcParseError, netrc
from pathlib import Path
from urllib.parse import urlsplit

from tuf.api.exceptions import DownloadError

from llama_core.errors import plain
from llama_core.web.bind import is_loopback


def file() -> Path:
    """Where names and passwords stand: NETRC, or the file in the user's folder."""
    return Path(os.environ.get("NETRC") or Path.home() / ".netrc")


def authorization(url: str, asked: str) -> str:
    """The header that answers `asked`, what a server said with status 401."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if asked.split(" ", 1)[0].lower() != "basic":
        how = f"in the way '{plain(asked, 60)}'" if asked else "and does not say in which way"
        raise DownloadError(f"{host} asks who is reading, {how}; only Basic is known here")
    if parts.scheme != "https" and not is_loopback(host):
        raise DownloadError(
            f"{host} asks for a password over a connection that is not encrypted; it is not sent: "
            "use an https address"
        )
    name, password = _found(host)
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def _found(host: str) -> tuple[str, str]:
    place = file()
    missing = (
        f"{host} asks for a name and a password, and {place} has none for it; "
        f"add the line: machine {host} login NAME password PASSWORD"
    )
    try:
        # Without a name the reader looks whether others may read the user's own file.
        hosts = (netrc(place) if os.environ.get("NETRC") else netrc()).hosts
    except FileNotFoundError:
        raise DownloadError(missing) from None
    except (NetrcParseError, OSError, UnicodeError) as error:
        raise DownloadError(f"{host} asks for a password, and {place}: {error}") from None
    if host not in hosts:
        raise DownloadError(missing)
    name, account, password = hosts[host]
    return name or account or "", password or ""
