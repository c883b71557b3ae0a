"""Models of the Hugging Face hub: pull one, and find what was pulled.

The cache is shared with every other program that uses `huggingface_hub`: blobs by digest, and for
each commit a folder of links to them. That library is imported when something is asked of the hub.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from llama_core.model.hub.cache import PulledModel, list_models, remove_model, show_model
from llama_core.model.hub.choose import choose_files
from llama_core.model.hub.download import Progress, RemoteFile, Sleep, download, explained
from llama_core.model.hub.reference import (
    HubError,
    HubSettings,
    Reference,
    is_safe_name,
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

_COMMIT = re.compile(r"[0-9a-f]{40}")


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
    commit, files = _remote(reference, settings)
    chosen = set(choose_files([file.name for file in files], reference))
    wanted = [file for file in files if file.name in chosen]
    _check_space(wanted, reference, settings)
    folder = settings.cache / reference.folder / "snapshots" / commit
    for file in wanted:
        blob = download(file, reference, commit, settings, progress=progress, sleep=sleep)
        _link(blob, folder / file.name)
    _remember(reference, commit, settings)
    return _place(folder, sorted(chosen), reference)


def pulled(text: str, settings: HubSettings | None = None) -> Path:
    """Where a model lies that was pulled before; asks nobody."""
    settings = settings or HubSettings.from_environment()
    reference = parse_reference(text)
    home = settings.cache / reference.folder
    commit = reference.revision
    if not _COMMIT.fullmatch(commit):
        try:
            commit = (home / "refs" / reference.revision).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            commit = ""
    folder = home / "snapshots" / commit
    if not _COMMIT.fullmatch(commit) or not folder.is_dir():
        offline = " There is no pulling while HF_HUB_OFFLINE is set." if settings.offline else ""
        raise HubError(
            f"{reference} was not pulled", remedy=f"Pull it first: llama pull {reference}.{offline}"
        )
    names = [p.relative_to(folder).as_posix() for p in sorted(folder.rglob("*")) if p.is_file()]
    return _place(folder, choose_files(names, reference), reference)


def _remote(reference: Reference, settings: HubSettings) -> tuple[str, list[RemoteFile]]:
    """The commit that a revision stands for, and its files."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HTTPError

    api = HfApi(settings.endpoint, token=settings.token or False, library_name="llama-core")
    try:
        info = api.model_info(
            reference.repo, revision=reference.revision, files_metadata=True, timeout=30
        )
        commit, siblings = str(info.sha), list(info.siblings or [])
        sizes = [(one.rfilename, one.size, one.lfs, one.blob_id) for one in siblings]
    except HfHubHTTPError as error:
        raise explained(error, str(reference), settings) from None
    except (HTTPError, OSError) as error:
        raise HubError(
            f"cannot reach {settings.endpoint}: {str(error) or type(error).__name__}",
            remedy="Check the connection; what was pulled before runs with HF_HUB_OFFLINE=1.",
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise HubError(f"{settings.endpoint} does not answer as a hub does: {error}") from None
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{settings.endpoint} names no valid commit for {reference}")
    unsafe = [repr(name)[:100] for name, *_ in sizes if not is_safe_name(name)]
    if unsafe:
        raise HubError(
            f"{reference} has files with names that are not safe: {', '.join(unsafe[:5])}",
            remedy="Do not use this repository.",
        )
    return commit, [
        RemoteFile(name, -1 if size is None else int(size), str(lfs.sha256 if lfs else blob_id))
        for name, size, lfs, blob_id in sizes
    ]


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
        shutil.copyfile(blob, place)


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
