"""Where a run listens and what it takes to be heard: one file in its folder, for its owner alone.

The token dies with the run. Who can read the owner's files can steer the run anyway, by its
checkpoints if by nothing else; nobody else can read this one.
"""

from __future__ import annotations

import json
import os
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from llama_core.durable import replace_file
from llama_core.web import is_loopback
from llama_plugin_train.runs.faults import RunError

FILE_NAME = "control.json"
_MAX_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Address:
    """A run's door."""

    url: str
    token: str = field(repr=False)
    process: int

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or 80

    def write(self, run: Path) -> Path:
        """Put it into the run's folder, whole or not at all, readable by its owner alone."""
        target = run / FILE_NAME
        text = json.dumps({"url": self.url, "token": self.token, "process": self.process})
        try:
            replace_file(target, [f"{text}\n".encode()], private=True)
        except OSError as error:
            raise RunError(f"cannot write {target}: {error.strerror}") from error
        return target


def read_address(run: Path) -> Address | None:
    """The address in a run's folder; None where there is none, since it does not listen."""
    path = run / FILE_NAME
    try:
        with path.open("rb") as file:
            # The open file is asked, not the path, which may name another file by now.
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if os.name == "posix" and mode & 0o077:
                raise RunError(
                    f"{path} is open to other users (mode {mode:04o})",
                    remedy=f"Run: chmod 600 {shlex.quote(str(path))}",
                )
            data = file.read(_MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    try:
        said = json.loads(data)
        url, token, process = said["url"], said["token"], said["process"]
        parts = urlsplit(url)
        # Whoever wrote the file, the token goes nowhere but to this machine.
        good = parts.scheme == "http" and is_loopback(parts.hostname or "") and parts.port
        good = good and isinstance(token, str) and token.isascii() and token.isprintable()
        if not (good and type(process) is int):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Without the cause, which would quote the file.
        raise RunError(
            f"{path} is no address of a run on this machine",
            remedy="Delete it; the run writes it anew when it is resumed.",
        ) from None
    return Address(url, token, process)
