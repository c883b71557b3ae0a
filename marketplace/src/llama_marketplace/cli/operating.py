"""What the operator's commands share: which index, which keys, and saying what was signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from llama_marketplace.publish.repository import Repository
    from llama_marketplace.trust.keys import KeyRing

F = TypeVar("F", bound=Callable[..., Any])
WAIT_SECONDS = 60.0
FOLDER = click.Path(path_type=Path, file_okay=False)
FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


def index_option(command: F) -> F:
    return click.option(
        "--index", "folder", type=FOLDER, required=True, help="The folder of the index."
    )(command)


def keys_option(command: F) -> F:
    return click.option(
        "--keys", "places", type=click.Path(path_type=Path, exists=True), multiple=True,
        help="A folder of keys, or one key; several may be given.",
    )(command)  # fmt: skip


def open_index(folder: Path) -> Repository:
    """The index, for this command alone until it ends: two that sign at once would lose one."""
    from filelock import FileLock, Timeout

    from llama_marketplace.errors import IndexFailed
    from llama_marketplace.publish.repository import Repository, current_time

    Repository.open(folder, current_time())  # or a lock would lie in what is no index
    lock = FileLock(folder / ".lock", timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout:
        raise IndexFailed(f"another command has been changing {folder} for a minute") from None
    click.get_current_context().call_on_close(lock.release)
    return Repository.open(folder, current_time())


def open_keys(places: Sequence[Path]) -> KeyRing:
    """The keys of these places, or of the user's own folder."""
    from llama_marketplace.trust.keys import KeyRing, default_folder

    return KeyRing.open(places or [default_folder()], ask_passphrase)


def ask_passphrase(file: Path) -> str:
    return str(click.prompt(f"Passphrase of {file}", hide_input=True, err=True))


def root_digest(folder: Path) -> str:
    """What users pin."""
    import hashlib

    from llama_marketplace.trust.client import FIRST_ROOT

    return hashlib.sha256((folder / "metadata" / FIRST_ROOT).read_bytes()).hexdigest()
