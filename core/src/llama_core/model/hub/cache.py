"""The models that were pulled: list, show, remove. The cache is `huggingface_hub`'s own.

What other programs pulled is listed too. All functions give plain data; nothing is printed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.errors import did_you_mean, sentence
from llama_core.model.hub.reference import PREFIX, HubError, HubSettings, Reference

if TYPE_CHECKING:
    from huggingface_hub import CachedRepoInfo

_WEIGHTS = (".safetensors", ".gguf")


@dataclass(frozen=True, slots=True)
class PulledModel:
    """One model in the cache."""

    name: str  # as it is pulled and run
    revision: str  # the commit
    path: Path  # the folder of its files
    num_bytes: int
    files: tuple[str, ...]
    used: float  # seconds since the epoch

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "revision": self.revision,
            "path": str(self.path),
            "bytes": self.num_bytes,
            "files": list(self.files),
            "used": self.used,
        }


def list_models(settings: HubSettings) -> list[PulledModel]:
    """All that can be run offline, the newest commit of each, by name."""
    found = []
    for repo in _repos(settings):
        revisions = sorted(repo.revisions, key=lambda one: one.last_modified)
        for revision in revisions[-1:]:
            folder = revision.snapshot_path
            files = sorted(str(f.file_path.relative_to(folder).as_posix()) for f in revision.files)
            if any(name.endswith(_WEIGHTS) for name in files):
                found.append(
                    PulledModel(
                        f"{PREFIX}{repo.repo_id}",
                        revision.commit_hash,
                        folder,
                        repo.size_on_disk,
                        tuple(files),
                        repo.last_accessed,
                    )
                )
    return sorted(found, key=lambda one: one.name)


def show_model(reference: Reference, settings: HubSettings) -> PulledModel:
    """One of them, or an error with the near misses."""
    models = list_models(settings)
    for one in models:
        if one.name == f"{PREFIX}{reference.repo}":
            return one
    raise _not_here(reference, [one.name for one in models])


def remove_model(reference: Reference, settings: HubSettings) -> int:
    """Take a model out of the cache; how many bytes that freed."""
    for repo in _repos(settings):
        if repo.repo_id == reference.repo:
            from huggingface_hub import scan_cache_dir

            commits = [revision.commit_hash for revision in repo.revisions]
            strategy = scan_cache_dir(settings.cache).delete_revisions(*commits)
            strategy.execute()
            _remove_rest(settings.cache / reference.folder)
            return int(strategy.expected_freed_size)
    if (settings.cache / reference.folder).is_dir():  # a pull that never came to its end
        return _remove_rest(settings.cache / reference.folder)
    error = _not_here(reference, [f"{PREFIX}{repo.repo_id}" for repo in _repos(settings)])
    if error.remedy is not None and error.remedy.startswith("Pull"):
        error.remedy = "There is nothing to remove; `llama list` shows what is here."
    raise error


def _remove_rest(folder: Path) -> int:
    import shutil

    freed = (
        sum(p.lstat().st_size for p in folder.rglob("*") if p.is_file()) if folder.exists() else 0
    )
    shutil.rmtree(folder, ignore_errors=True)
    return freed


def _repos(settings: HubSettings) -> list[CachedRepoInfo]:
    from huggingface_hub import scan_cache_dir

    if not settings.cache.is_dir():
        return []
    return [repo for repo in scan_cache_dir(settings.cache).repos if repo.repo_type == "model"]


def _not_here(reference: Reference, names: list[str]) -> HubError:
    near = sentence(did_you_mean(f"{PREFIX}{reference.repo}", names))
    return HubError(
        f"{PREFIX}{reference.repo} was not pulled",
        remedy=near or f"Pull it first: llama pull {reference}",
    )
