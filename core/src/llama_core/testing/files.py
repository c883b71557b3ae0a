"""The rules of what keeps files: storages, formats and models that a plugin carries."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from llama_core.contracts.format import ModelFiles
from llama_core.plugins import Plugins
from llama_core.testing import tiny
from llama_core.testing.suite import FreshObjects, Make, PluginContract
from llama_core.testing.verdict import check, refuses

BODIES = (b"", b"one line\n", bytes(range(256)) * 4097)


class StorageContract(FreshObjects, PluginContract):
    """What a storage must keep to. Each object that `options` give must begin empty.

    Override `damage` to flip a byte of what is stored, so that the digest can be tested.
    """

    kind = "storage"

    def damage(self, storage: Any, given: Mapping[str, Any], name: str) -> bool:
        """Change a stored file behind the storage's back; False where there is no way to."""
        return False

    @pytest.fixture
    def store(self, make: Make, tmp_path: Path) -> Callable[..., Any]:
        """A storage holding some names, each with bytes."""

        def fill(**files: bytes) -> Any:
            one = make()
            for name, body in files.items():
                source = tmp_path / "source"
                source.write_bytes(body)
                one.put(source, name.replace("__", "/"))
            return one

        return fill

    def test_get_gives_what_was_put(self, store: Callable[..., Any], tmp_path: Path) -> None:
        """A file comes back byte for byte, empty and large ones too."""
        for body in BODIES:
            store(a__b=body).get("a/b", tmp_path / "target")
            same = (tmp_path / "target").read_bytes() == body
            check(same, f"a file of {len(body)} bytes came back otherwise.")

    def test_put_keeps_its_source(self, make: Make, tmp_path: Path) -> None:
        """The file that was stored is still where it was, and may change without harm."""
        one, source = make(), tmp_path / "source"
        source.write_bytes(b"before")
        one.put(source, "x")
        check(source.is_file(), "put() took its source away. Copy it, do not move it.")
        source.write_bytes(b"after!")
        one.get("x", tmp_path / "target")
        kept = (tmp_path / "target").read_bytes() == b"before"
        check(kept, "what was stored changed together with its source. Copy, do not link.")

    def test_list_is_by_prefix_and_in_order(self, store: Callable[..., Any]) -> None:
        """`list` gives the names that begin with the prefix, sorted; all where there is none."""
        one = store(b=b"2", a__c=b"3", a__b=b"1", ab=b"4")
        for prefix in ("", "a", "a/", "a/b", "z"):
            names = ("a/b", "a/c", "ab", "b")
            expected = [name for name in names if name.startswith(prefix)]
            found = list(one.list(prefix))
            check(found == expected, f"list({prefix!r}) gave {found} and should give {expected}.")

    def test_delete_removes(self, store: Callable[..., Any]) -> None:
        """A deleted name is gone, its neighbours are not, and deleting twice is allowed."""
        one = store(a=b"1", b=b"2")
        for _ in range(2):
            one.delete("a")
            found = list(one.list())
            check(found == ["b"], f"after delete('a') of a and b, list() gave {found}.")

    def test_missing_name_is_said(self, store: Callable[..., Any], tmp_path: Path) -> None:
        """`get` of a name that is not there raises a LlamaError and leaves no file behind."""
        one, target = store(a=b"1"), tmp_path / "target"
        refuses(lambda: one.get("b", target), "get() of a missing name must raise a LlamaError.")
        check(not target.exists(), "get() of a missing name left a file at the target.")

    def test_failed_put_leaves_nothing(self, store: Callable[..., Any], tmp_path: Path) -> None:
        """A file that cannot be read raises a LlamaError, and the name is not there."""
        one = store()
        for source in (tmp_path / "missing", tmp_path):
            refuses(
                partial(one.put, source, "new"),
                "put() of what cannot be read must raise a LlamaError.",
            )
            check(list(one.list()) == [], "the failed put() left a name. Write aside, then rename.")

    def test_names_cannot_escape(self, store: Callable[..., Any], tmp_path: Path) -> None:
        """Names that lead out of the storage, or are none, are refused with a LlamaError."""
        one, source = store(), tmp_path / "source"
        source.write_bytes(b"x")
        for name in ("", "/x", "../x", "a/../../x", "a//b", "a/./b", "a\\..\\x", "a\0b"):
            refuses(
                partial(one.put, source, name),
                f"put() to the name {name!r} must raise a LlamaError.",
            )

    def test_digest_is_checked(
        self, store: Callable[..., Any], given: Mapping[str, Any], tmp_path: Path
    ) -> None:
        """A file that was changed where it is stored is not given out."""
        one = store(a=b"what was stored")
        if not self.damage(one, given, "a"):
            pytest.skip("override damage() to change a stored file")
        target = tmp_path / "target"
        refuses(lambda: one.get("a", target), "get() of a damaged file must raise a LlamaError.")
        check(not target.exists(), "get() left the damaged file at the target.")


class ModelContract(PluginContract):
    """What a plugin that carries a model must keep to."""

    kind = "model"

    def test_path_is_there(self, make: Make) -> None:
        """`path` gives an absolute Path where there is a file or a folder."""
        found = make().path()
        check(
            isinstance(found, Path) and found.is_absolute() and found.exists(),
            f"path() gave {found!r}. Give the absolute Path of a file or folder that is there.",
        )

    def test_path_stays(self, make: Make) -> None:
        """It says the same path each time it is asked."""
        one = make()
        check(one.path() == one.path(), "path() gave two answers. Unpack once, to one place.")

    def test_a_format_opens_it(self, make: Make, llama_plugins: Plugins) -> None:
        """One of the installed formats recognizes it and opens it."""
        formats = [llama_plugins.create("format", name) for name in llama_plugins.names("format")]
        if not formats:
            pytest.skip("no format is installed")
        path = make().path()
        if not path.exists():
            pytest.skip("test_path_is_there says why")
        mine = [each for each in formats if each.detects(path)]
        check(mine, f"none of {llama_plugins.names('format')} recognizes {path}.")
        mine[0].open(path)


class FormatContract(FreshObjects, PluginContract):
    """What a format must keep to. Override `sample` where it cannot hold the usual tiny model."""

    kind = "format"
    file_name: ClassVar[str] = "model"  # with the suffix that the format expects

    def sample(self) -> ModelFiles:
        """A model to write, its tensors named as in a Hugging Face checkpoint."""
        return ModelFiles(Path("sample"), self.provides, dict(tiny.CONFIG), tiny.checkpoint())

    @pytest.fixture
    def saved(self, make: Make, tmp_path: Path) -> Path:
        """The sample, as the format writes it."""
        path = tmp_path / "saved" / self.file_name
        path.parent.mkdir()
        try:
            make().save(self.sample(), path)
        except Exception:  # noqa: BLE001 - one rule says so
            pytest.skip("test_round_trip says why")
        return path

    def test_round_trip(self, make: Make, tmp_path: Path) -> None:
        """What was saved is opened again: the same config, tensors, shapes and bits."""
        path, given = tmp_path / self.file_name, self.sample()
        make().save(self.sample(), path)
        found = make().open(path)
        check(isinstance(found, ModelFiles), f"open() gave {found!r}. Give ModelFiles.")
        check(
            set(found.weights) == set(given.weights),
            "the names of the tensors differ. Keep all, as they are.",
        )
        for name, tensor in given.weights.items():
            again = found.weights[name]
            same = again.shape == tensor.shape and np.array_equal(again.decode(), tensor.decode())
            check(same, f"tensor {name} came back otherwise. Keep every bit and the shape.")
        kept = found.config.get
        lost = {key for key, value in given.config.items() if not _equal(kept(key), value)}
        check(not lost, f"{', '.join(sorted(lost))} of the config came back otherwise.")

    def test_detects_its_own(self, make: Make, saved: Path) -> None:
        """It recognizes what it wrote."""
        check(make().detects(saved) is True, "detects() does not know a file that save() wrote.")

    def test_detects_nothing_else(self, make: Make, tmp_path: Path) -> None:
        """It recognizes neither junk, nor an empty folder, nor what is not there; nor raises."""
        for path in _junk(tmp_path, self.file_name):
            found = make().detects(path)
            check(found is False, f"detects() of {_what(path)} gave {found!r}. Give False.")

    def test_junk_is_refused(self, make: Make, tmp_path: Path) -> None:
        """Opening what is not its own raises a LlamaError."""
        for path in _junk(tmp_path, self.file_name):
            refuses(
                partial(make().open, path),
                f"open() of {_what(path)} must be a LlamaError.",
            )

    def test_cut_files_are_refused(self, make: Make, saved: Path) -> None:
        """A file that ends too early raises a LlamaError when opened, wherever it was cut."""
        files = [saved] if saved.is_file() else sorted(p for p in saved.rglob("*") if p.is_file())
        largest = max(files, key=lambda path: path.stat().st_size)
        whole = largest.read_bytes()
        for length in (0, 1, 7, len(whole) // 3, len(whole) // 2, len(whole) - 1):
            largest.write_bytes(whole[:length])
            refuses(
                lambda: make().open(saved),
                f"open() must refuse {largest.name} cut to {length} of {len(whole)} bytes. "
                "Check every length against the file's when it is opened.",
            )

    def test_save_never_overwrites(self, make: Make, saved: Path) -> None:
        """Saving where there is something raises a LlamaError and leaves that as it was."""
        files = sorted(path for path in saved.parent.rglob("*") if path.is_file())
        before = [path.read_bytes() for path in files]
        refuses(
            lambda: make().save(self.sample(), saved),
            "save() to a path where there is something must raise a LlamaError.",
        )
        after = [path.read_bytes() for path in files if path.is_file()]
        check(after == before, "save() changed what was there.")

    def test_model_is_not_changed(self, make: Make, tmp_path: Path) -> None:
        """The model handed to `save` is as it was."""
        given = self.sample()
        before = (dict(given.config), tiny.fingerprint(given.weights))
        make().save(given, tmp_path / self.file_name)
        after = (dict(given.config), tiny.fingerprint(given.weights))
        check(before == after, "save() changed the config or the weights it was given.")


def _equal(found: Any, given: Any) -> bool:
    """Numbers of a config may have been through float32, as some formats keep them."""
    if isinstance(given, float) and isinstance(found, float):
        return math.isclose(found, given, rel_tol=1e-6)
    return bool(found == given)


def _junk(folder: Path, name: str) -> list[Path]:
    """A folder with nothing, files with the right name and the wrong bytes, and no file at all."""
    empty = folder / "empty"
    empty.mkdir(exist_ok=True)
    found = [empty, folder / "missing" / name]
    for i, body in enumerate((b"", b"no model at all\n", b"\xff" * 64, b"{}", b"\0" * 4096)):
        place = folder / f"junk{i}"
        place.mkdir(exist_ok=True)
        (place / name).write_bytes(body)
        found.append(place / name)
    return found


def _what(path: Path) -> str:
    if path.is_dir():
        return "an empty folder"
    return f"a file of {path.read_bytes()[:16]!r}" if path.exists() else "a path that is not there"
