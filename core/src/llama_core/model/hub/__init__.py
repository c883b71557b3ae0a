"""Models of the Hugging Face hub: pull one, and find what was pulled.

The cache is shared with every other program that uses `huggingface_hub`: blobs by digest, and for
each commit a folder of links to them. That library is imported when something is asked of the hub.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from llama_core.model.hub.cache import PulledModel, list_models, remove_model, show_model
from llama_core.model.hub.choose import choose_files
from llama_core.model.hub.download import Progress, RemoteFile, Sleep, download, writing
from llama_core.model.hub.listing import COMMIT, remote_files
from llama_core.model.hub.reference import (
    HubError,
    HubSettings,
    Reference,
    parse_reference,
)

__all__ = [
    "HubError",
    "HubSettings",
    "PulledModel",
    "Reference",
    "list_models",
    "parse_reference",
    "pull",
    "pulled",
    "remove_model",
    "show_model",
]


def pull(
    text: str,
    settings: HubSettings | None = None,
    *,
    progress: Progress | None = None,
    sleep: Sleep = time.sleep,
) -> Path:
    """Download what is not there yet, and say where the model lies: a folder, or a GGUF file.

    `progress` hears of every piece that arrives: the file, how much of it there is, its size.
    """
    settings = settings or HubSettings.from_environment()
    reference = parse_reference(text)
    if settings.offline:
        return pulled(text, settings)
    commit, files = remote_files(reference, settings)
    chosen = set(choose_files([file.name for file in files], reference))
    wanted = [file for file in files if file.name in chosen]
    _check_space(wanted, reference, settings)
    folder = settings.cache / reference.folder / "snapshots" / commit
    for file in wanted:
        blob = download(file, reference, commit, settings, progress=progress, sleep=sleep)
        with writing(file.name, settings):
            _link(blob, folder / file.name)
    with writing(reference.revision, settings):
        _remember(reference, commit, settings)
    return _place(folder, sorted(chosen), reference)


def pulled(text: str, settings: HubSettings | None = None) -> Path:
    """Where a model lies that was pulled before; asks nobody."""
    settings = settings or HubSettings.from_environment()
    reference = parse_reference(text)
    home = settings.cache / reference.folder
    commit = reference.revision
    if not COMMIT.fullmatch(commit):
        try:
            commit = (home / "refs" / reference.revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            commit = ""
    folder = home / "snapshots" / commit
    if not COMMIT.fullmatch(commit) or not folder.is_dir():
        offline = " There is no pulling while HF_HUB_OFFLINE is set." if settings.offline else ""
        raise HubError(
            f"{reference} was not pulled", remedy=f"Pull it first: llama pull {reference}.{offline}"
        )
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return _place(folder, choose_files(names, reference), reference)


def _check_space(files: Sequence[RemoteFile], reference: Reference, settings: HubSettings) -> None:
    blobs = settings.cache / reference.folder / "blobs"
    needed = sum(f.size for f in files if not (blobs / f.digest).exists())
    try:
        settings.cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(settings.cache).free
    except OSError as error:
        raise HubError(
            f"cannot write to {settings.cache}: {error.strerror}",
            remedy="Set HF_HUB_CACHE to a folder that can be written to.",
        ) from None
    if needed > free:
        raise HubError(
            f"{reference} needs {needed / 1e9:.1f} GB, {settings.cache} has {free / 1e9:.1f} GB",
            remedy="Free some space, or set HF_HUB_CACHE to a folder on a larger disk.",
        )


def _link(blob: Path, place: Path) -> None:
    """A link to the blob, or a copy where the system knows no links."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink() and place.resolve() != blob.resolve():
        place.unlink()
    if place.exists():
        return
    try:
        place.symlink_to(os.path.relpath(blob, place.parent))
    except OSError:
        part = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            shutil.copyfile(blob, part)
            part.replace(place)  # a part of a copy would pass for the file ever after
        finally:
            part.unlink(missing_ok=True)


def _remember(reference: Reference, commit: str, settings: HubSettings) -> None:
    """Which commit a branch or tag stood for, written last: what it names is all there."""
    if reference.revision == commit:
        return
    ref = settings.cache / reference.folder / "refs" / reference.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    part = ref.with_name(f".{ref.name}.{os.getpid()}")
    part.write_text(commit, encoding="utf-8")
    part.replace(ref)


def _place(folder: Path, chosen: Sequence[str], reference: Reference) -> Path:
    """The path that a format opens."""
    models = [name for name in chosen if name.endswith(".gguf")]
    if models:
        return folder / min(models)
    if reference.file is not None and len(chosen) == 1:
        return folder / chosen[0]
    return folder
