"""API keys: how they are made, kept, presented and compared.

Knows a key only by its SHA-256 digest, so that neither the file nor the memory of a server gives
one away. A plain digest is enough because a key is 256 random bits, not a password. It does not
know what a scope opens: `routes` does.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import secrets
import shlex
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from llama_core.errors import LlamaError

KeyScope = Literal["infer", "train", "admin"]
SCOPES: frozenset[KeyScope] = frozenset(get_args(KeyScope))

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BEARER = re.compile(rb"bearer +([A-Za-z0-9._~+/-]{1,512}=*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Key:
    """One key as it is kept. Scopes are independent of each other: `admin` implies nothing."""

    name: str
    digest: str = field(repr=False)
    scopes: frozenset[KeyScope]
    created: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise LlamaError(
                "a key's name is not 1 to 64 letters, digits, dots, underscores or hyphens"
            )
        if not _DIGEST.fullmatch(self.digest):
            raise LlamaError(f"key '{self.name}' has no SHA-256 digest of 64 hexadecimal digits")
        if not self.scopes or not self.scopes <= SCOPES:
            raise LlamaError(
                f"key '{self.name}' has the scopes {sorted(self.scopes)}",
                remedy=f"Give it one or more of {', '.join(sorted(SCOPES))}.",
            )


def new_key(name: str, scopes: Iterable[KeyScope]) -> tuple[str, Key]:
    """A fresh 256-bit secret, to be shown to its owner once, and the key to keep."""
    secret = "llc_" + secrets.token_urlsafe(32)
    created = datetime.now(UTC).isoformat(timespec="seconds")
    return secret, Key(name, _digest(secret.encode()), frozenset(scopes), created)


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def bearer_secret(authorization: list[bytes]) -> bytes | None:
    """The secret of the one `Authorization: Bearer` header, None where there is no such."""
    match = _BEARER.fullmatch(authorization[0]) if len(authorization) == 1 else None
    return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys that a server accepts."""

    keys: tuple[Key, ...] = ()

    def __post_init__(self) -> None:
        names = [key.name for key in self.keys]
        for name in names:
            if names.count(name) > 1:
                raise LlamaError(f"two keys are named '{name}'", remedy="Rename one of them.")

    def __bool__(self) -> bool:
        return bool(self.keys)

    def match(self, secret: bytes) -> Key | None:
        """The key with this secret. All digests are compared, so that time tells nothing."""
        digest, found = _digest(secret), None
        for key in self.keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Keyring:
        """Read a key file, unless others may read it or a group may write it."""
        try:
            with open(path, "rb") as file:
                # The open file is asked, not the path, which may name another file by now.
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                # The owner's group may read: that is how orchestrators mount a secret.
                if os.name == "posix" and mode & 0o027:
                    raise LlamaError(
                        f"key file {path} is open to other users (mode {mode:04o})",
                        remedy=f"Run: chmod 600 {shlex.quote(str(path))}",
                    )
                text = file.read()
        except OSError as error:
            raise LlamaError(f"key file {path} cannot be read: {error.strerror}") from None
        try:
            return cls(tuple(_parse(entry) for entry in json.loads(text)["keys"]))
        except LlamaError as error:
            raise LlamaError(f"key file {path}: {error.message}", remedy=error.remedy) from None
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # Without the cause, which would quote the file.
            raise LlamaError(
                f'key file {path} is not {{"keys": [{{"name", "digest", "scopes", "created"}}]}}',
                remedy="Restore it from a copy, or delete it and create the keys anew.",
            ) from None

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the key file for its owner alone: the old one or the new one, never half of one."""
        target = Path(path)
        keys = [
            {"name": k.name, "digest": k.digest, "scopes": sorted(k.scopes), "created": k.created}
            for k in self.keys
        ]
        draft = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
        try:
            handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with open(handle, "w", encoding="utf-8") as file:
                    file.write(json.dumps({"keys": keys}, indent=2) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                draft.replace(target)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise LlamaError(f"key file {path} cannot be written: {error.strerror}") from None


def _parse(entry: dict[str, Any]) -> Key:
    name, digest, created = entry["name"], entry["digest"], entry["created"]
    scopes = entry["scopes"]
    if not (
        all(isinstance(text, str) for text in (name, digest, created)) and isinstance(scopes, list)
    ):
        raise TypeError
    return Key(name, digest, frozenset(scopes), created)
