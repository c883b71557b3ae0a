"""What the folder adds to the rules of every storage: what a crash leaves behind it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from llama_core.builtin.folder_storage import FolderStorage, StorageError


def _put(storage: FolderStorage, folder: Path, name: str, body: bytes) -> None:
    source = folder / "source"
    source.write_bytes(body)
    storage.put(source, name)


@pytest.mark.parametrize("dies_at", range(4))
def test_replacing_a_name_may_end_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: int
) -> None:
    """After a death at any rename the name gives one of its two bodies, checked."""
    storage = FolderStorage(str(tmp_path / "store"))
    _put(storage, tmp_path, "a/b", b"old")
    calls, replace = [0], Path.replace

    class Dies(BaseException):
        pass

    def dying(self: Path, target: Path) -> Path:
        calls[0] += 1
        if calls[0] > dies_at:
            raise Dies
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", dying)
    if dies_at < 3:
        with pytest.raises(Dies):
            _put(storage, tmp_path, "a/b", b"new")
    else:
        _put(storage, tmp_path, "a/b", b"new")
    monkeypatch.undo()
    FolderStorage(str(tmp_path / "store")).get("a/b", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == (b"old" if dies_at < 2 else b"new")


def test_what_a_killed_writer_left_goes(tmp_path: Path) -> None:
    """Old parts are removed at the first put; one that is being written stays."""
    _put(FolderStorage(str(tmp_path / "store")), tmp_path, "a", b"1")
    parts = tmp_path / "store" / ".parts"
    (parts / ".part-old").write_bytes(b"x")
    os.utime(parts / ".part-old", (0, 0))
    (parts / ".part-new").write_bytes(b"x")
    _put(FolderStorage(str(tmp_path / "store")), tmp_path, "b", b"2")
    assert [path.name for path in parts.iterdir()] == [".part-new"]


def test_removing_a_name_removes_its_folders(tmp_path: Path) -> None:
    storage = FolderStorage(str(tmp_path / "store"))
    _put(storage, tmp_path, "a/b/c", b"1")
    storage.delete("a/b/c")
    assert not (tmp_path / "store" / "a").exists()
    assert list((tmp_path / "store" / ".digests").iterdir()) == []


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = FolderStorage(str(tmp_path / "store"))
    _put(storage, tmp_path, "a", b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"'a' in .*: No space left on device.*is whole"):
        _put(storage, tmp_path, "a", b"new")
    monkeypatch.undo()
    storage.get("a", tmp_path / "target")
    assert (tmp_path / "target").read_bytes() == b"old"
    assert list((tmp_path / "store" / ".parts").iterdir()) == []
