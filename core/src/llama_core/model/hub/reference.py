"""What names a model of the hub, `hf:org/name[@revision][:file]`, and the settings of this machine.

Nothing here touches the network or the disk, and `huggingface_hub` is not imported.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from llama_core import __version__
from llama_core.errors import LlamaError

PREFIX = "hf:"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REFERENCE = re.compile(
    rf"(?:{PREFIX})?(?!{PREFIX})({_PART}(?:/{_PART})?)(?:@([A-Za-z0-9][A-Za-z0-9._/-]{{0,200}}))?(?::(.{{1,300}}))?"
)


class HubError(LlamaError):
    """A model cannot be pulled; the cache is as it was, but for what can be resumed."""

    code = "hub"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model of the hub. `file` is a file's name or the part of one that tells it from others."""

    repo: str
    revision: str = "main"
    file: str | None = None

    def __str__(self) -> str:
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{PREFIX}{self.repo}{revision}" + (f":{self.file}" if self.file else "")

    @property
    def folder(self) -> str:
        """The name of the model's folder in the cache, as `huggingface_hub` gives it."""
        return "--".join(["models", *self.repo.split("/")])


def parse_reference(text: str) -> Reference:
    """A reference, or an error that says how one is written."""
    found = _REFERENCE.fullmatch(text)
    repo, revision, file = found.groups() if found else ("..", None, None)
    wrong = ".." in repo or "--" in repo or ".." in (revision or "") or repo.endswith(".git")
    if wrong or (file is not None and not is_safe_name(file)):
        raise HubError(
            f"'{text[:200]}' does not name a model of the hub",
            remedy=f"Write {PREFIX}organisation/name, or {PREFIX}organisation/name:file.",
        )
    return Reference(repo, revision or "main", file)


def is_safe_name(name: object) -> bool:
    """Whether a file's name from a server stays inside the folder it is put in, on any system."""
    if not isinstance(name, str) or not name or len(name) > 300:
        return False
    if any(ord(c) < 32 or c in '\\:*?"<>|' or ord(c) == 127 for c in name):
        return False
    parts = PurePosixPath(name).parts
    return (
        "/".join(parts) == name
        and not name.startswith("/")
        and all(part not in (".", "..") and part.rstrip(". ") == part for part in parts)
    )


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where the hub is, where models are kept, and who asks; from the environment as everywhere."""

    endpoint: str
    cache: Path
    token: str | None = None
    offline: bool = False

    @staticmethod
    def from_environment(environment: Mapping[str, str] | None = None) -> HubSettings:
        """As `huggingface_hub` reads it, but when it is asked for, not when it is imported."""
        env = os.environ if environment is None else environment
        root = Path(env.get("XDG_CACHE_HOME") or "~/.cache") / "huggingface"
        home = Path(env.get("HF_HOME") or root).expanduser()
        cache = Path(env.get("HF_HUB_CACHE") or home / "hub").expanduser()
        offline = env.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
        endpoint = (env.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")
        token = env.get("HF_TOKEN") or _stored_token(home, env)
        return HubSettings(endpoint, cache, token, offline)

    def headers(self) -> dict[str, str]:
        """What the hub is told with each request: who asks, and nothing of the machine it is on."""
        said = {"User-Agent": f"llama-core/{__version__}"}
        if self.token is not None:
            said["Authorization"] = f"Bearer {self.token}"
        # Nothing that is small and grows when it is unpacked, and offsets that mean the file's own.
        return {**said, "Accept-Encoding": "identity"}

    def __repr__(self) -> str:
        """Without the token."""
        return f"HubSettings({self.endpoint}, {self.cache}, offline={self.offline})"


def _stored_token(home: Path, env: Mapping[str, str]) -> str | None:
    """What `hf auth login` left."""
    path = Path(env.get("HF_TOKEN_PATH") or home / "token").expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except (OSError, UnicodeDecodeError):
        return None
