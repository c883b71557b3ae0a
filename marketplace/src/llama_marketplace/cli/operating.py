"""What the operator's commands share: which index, which keys, and saying what was signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from llama_marketplace.publish.offering import Offer
    from llama_marketplace.publish.repository import Repository
    from llama_marketplace.sources import Source
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


def offer_options(command: F) -> F:
    """Of what a publisher may do on a machine of its own: an index here, or an offer to it."""
    for flag in (
        click.option(
            "--from", "source", metavar="NAME",
            help="With --offer: for which of the indexes that are trusted, if there are several.",
        ),
        click.option(
            "--offer", type=FOLDER,
            help="In place of --index: a new folder for its operator to `accept`.",
        ),
        click.option("--index", "folder", type=FOLDER, help="The folder of the index."),
    ):  # fmt: skip
        command = flag(command)
    return command


def check_offer(folder: Path | None, offer: Path | None, source: str | None) -> None:
    if (folder is None) == (offer is None):
        raise click.UsageError("say either --index FOLDER or --offer FOLDER")
    if source is not None and offer is None:
        raise click.UsageError("--from goes with --offer")


def begin_offer(source: str | None, publisher: str, ring: KeyRing) -> Offer:
    """An offer to a trusted index, upon what it says now."""
    from llama_marketplace.publish.offering import Offer
    from llama_marketplace.publish.repository import current_time

    return Offer(trusted(source), publisher, ring, current_time())


def trusted(name: str | None) -> Source:
    """The index of this name, or the only one that is trusted, as it is now."""
    from llama_core.errors import LlamaError, did_you_mean
    from llama_marketplace.sources import configured

    known = {each.name: each for each in configured()}
    if not known:
        raise LlamaError("no index is trusted yet", remedy="llama marketplace indexes add --help")
    if name is None and len(known) > 1:
        raise LlamaError(f"{len(known)} indexes are trusted", remedy=f"--from {next(iter(known))}")
    if name is not None and name not in known:
        hint = did_you_mean(name, known) or f"Trusted are {', '.join(known)}."
        raise LlamaError(f"no index '{name}' is trusted", remedy=hint)
    found = next(iter(known.values())) if name is None else known[name]
    found.refresh()
    return found


def told_of(offer: Path, source: str) -> str:
    """What becomes of an offer."""
    return f"send {offer} to the operator of '{source}': llama marketplace accept {offer.name} …"


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
