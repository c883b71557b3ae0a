"""Storages, models and formats."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from llama_core.contracts.format import ModelFiles
from llama_core.errors import LlamaError
from llama_core.model.weights import DenseWeights
from specimens.harness import specimen

_ROOT = {
    "properties": {"root": {"type": "string", "minLength": 1}},
    "required": ["root"],
    "additionalProperties": False,
}
_FOLDER = {"manifest": {"options": _ROOT}}
_count = itertools.count()


def flip(self: Any, storage: Any, given: Any, name: str) -> bool:
    file = storage.root / name
    file.write_bytes(b"~" + file.read_bytes()[1:])
    return True


_HOW: Any = {**_FOLDER, "options": [{"root": "{folder}"}], "damage": flip}


@specimen("storage", **_HOW)
class Folder:
    """A folder of files, and beside it one of digests."""

    def __init__(self, root: str) -> None:
        self.root, self.digests = Path(root, "files"), Path(root, "digests")

    def at(self, name: str) -> Path:
        if not name or any(part in ("", ".", "..") for part in name.split("/")):
            raise LlamaError(f"{name!r} is not a name")
        if "\\" in name or not name.isprintable():
            raise LlamaError(f"{name!r} is not a name")
        return self.root / name

    def put(self, source: Path, name: str) -> None:
        target = self.at(name)
        try:
            data = source.read_bytes()
        except OSError as error:
            raise LlamaError(f"cannot read {source}: {error}") from error
        self.write(target, data)
        self.write(self.digests / name, hashlib.sha256(data).digest())

    def write(self, target: Path, data: bytes) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def get(self, name: str, target: Path) -> None:
        if not self.at(name).is_file():
            raise LlamaError(f"there is no {name!r}")
        data = self.at(name).read_bytes()
        if hashlib.sha256(data).digest() != (self.digests / name).read_bytes():
            raise LlamaError(f"{name!r} is damaged")
        target.write_bytes(data)

    def list(self, prefix: str = "") -> Any:
        files = (path for path in self.root.rglob("*") if path.is_file())
        names = sorted(path.relative_to(self.root).as_posix() for path in files)
        return (name for name in names if name.startswith(prefix))

    def delete(self, name: str) -> None:
        self.at(name).unlink(missing_ok=True)


@specimen("storage", "test_get_gives_what_was_put", **_HOW)
class OneByteLess(Folder):
    def get(self, name: str, target: Path) -> None:
        super().get(name, target)
        if target.stat().st_size > 9:
            os.truncate(target, target.stat().st_size - 1)


@specimen("storage", "test_put_keeps_its_source", **_HOW)
class Moves(Folder):
    def put(self, source: Path, name: str) -> None:
        super().put(source, name)
        source.unlink()


@specimen("storage", "test_list_is_by_prefix_and_in_order", **_HOW)
class ListsBackwards(Folder):
    def list(self, prefix: str = "") -> Any:
        return reversed(list(super().list(prefix)))


@specimen("storage", "test_delete_removes", **_HOW)
class DeletesOnce(Folder):
    def delete(self, name: str) -> None:
        if not self.at(name).exists():
            raise LlamaError(f"there is no {name!r}")
        super().delete(name)


@specimen("storage", "test_missing_name_is_said", **_HOW)
class LeavesAFile(Folder):
    def get(self, name: str, target: Path) -> None:
        if not self.at(name).exists():
            target.touch()
        super().get(name, target)


@specimen("storage", "test_failed_put_leaves_nothing", **_HOW)
class NamesFirst(Folder):
    def put(self, source: Path, name: str) -> None:
        self.write(self.at(name), b"")
        super().put(source, name)


@specimen("storage", "test_names_cannot_escape", **_HOW)
class GoesAnywhere(Folder):
    def at(self, name: str) -> Path:
        return self.root / (name.strip("/").replace("\0", "").replace("..", "up") or "none")


@specimen("storage", "test_digest_is_checked", **_HOW)
class Trusts(Folder):
    def get(self, name: str, target: Path) -> None:
        if not self.at(name).is_file():
            raise LlamaError(f"there is no {name!r}")
        shutil.copyfile(self.at(name), target)


@specimen("model")
class Carried:
    def path(self) -> Any:
        return Path(__file__).resolve()


@specimen("model", "test_path_is_there")
class Elsewhere(Carried):
    def path(self) -> Any:
        return Path(__file__).resolve().with_name("not-there.py")


@specimen("model", "test_path_stays")
class Wanders(Carried):
    def path(self) -> Any:
        folder = Path(__file__).resolve().parent
        return (folder, Path(__file__).resolve())[next(_count) % 2]


@specimen("model", "test_a_format_opens_it")
class Unreadable(Carried):
    def path(self) -> Any:
        return Path(__file__).resolve().parent.parent / "conftest.py"


_MAGIC = b"TINYMODEL"


@specimen("format")
class Plain:
    """A line of JSON with names and shapes, and after it all numbers in float32."""

    def detects(self, path: Path) -> Any:
        if path.suffix == ".py":  # so that the models above are of this format
            return path.name == "files.py"
        return path.is_file() and path.read_bytes()[: len(_MAGIC)] == _MAGIC

    def open(self, path: Path) -> Any:
        if path.name == "files.py":
            return ModelFiles(path, "plain", {}, DenseWeights({}))
        if not self.detects(path):
            raise LlamaError(f"{path} is not a plain model")
        header, _, body = path.read_bytes()[len(_MAGIC) :].partition(b"\n")
        try:
            config, shapes = json.loads(header)
        except ValueError as error:
            raise LlamaError(f"{path} has no header: {error}") from error
        sizes = [int(np.prod(shape)) for shape in shapes.values()]
        if len(body) != 4 * sum(sizes):
            raise LlamaError(f"{path} has {len(body)} bytes of numbers, not {4 * sum(sizes)}")
        return self.files(path, config, shapes, body, sizes)

    def files(self, path: Path, config: Any, shapes: Any, body: bytes, sizes: Any) -> Any:
        flat = np.frombuffer(body, np.float32)
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        arrays = {n: x.reshape(s) for (n, s), x in zip(shapes.items(), parts, strict=True)}
        return ModelFiles(path, "plain", config, DenseWeights(arrays))

    def save(self, files: ModelFiles, path: Path) -> None:
        if path.exists():
            raise LlamaError(f"there is something at {path}")
        self.write(files, path)

    def write(self, files: ModelFiles, path: Path) -> None:
        shapes = {name: one.shape for name, one in files.weights.items()}
        header = json.dumps([dict(files.config), shapes]).encode()
        body = b"".join(one.decode().tobytes() for one in files.weights.values())
        path.write_bytes(_MAGIC + header + b"\n" + body)


@specimen("format", "test_round_trip")
class Rounds(Plain):
    def files(self, path: Path, config: Any, shapes: Any, body: bytes, sizes: Any) -> Any:
        rounded = np.frombuffer(body, np.float32).astype(np.float16).astype(np.float32)
        return super().files(path, config, shapes, rounded.tobytes(), sizes)


@specimen("format", "test_detects_its_own")
class ByNameOnly(Plain):
    def detects(self, path: Path) -> Any:
        return super().detects(path) and path.suffix == ".plain"

    def open(self, path: Path) -> Any:
        return Plain().open(path)


@specimen("format", "test_detects_nothing_else")
class DetectsAll(Plain):
    def detects(self, path: Path) -> Any:
        return path.exists() and path.suffix != ".py"

    def open(self, path: Path) -> Any:
        return Plain().open(path)


@specimen("format", "test_junk_is_refused")
class TrustsTheMagic(Plain):
    def open(self, path: Path) -> Any:
        if not path.is_file():
            raise FileNotFoundError(path)
        return super().open(path)


@specimen("format", "test_cut_files_are_refused")
class TakesShort(Plain):
    def open(self, path: Path) -> Any:
        if path.is_file() and path.read_bytes().count(b"\n") and path.stat().st_size > 2000:
            data = path.read_bytes()
            header, _, body = data[len(_MAGIC) :].partition(b"\n")
            config, shapes = json.loads(header)
            sizes = [int(np.prod(shape)) for shape in shapes.values()]
            whole = body.ljust(4 * sum(sizes), b"\0")
            if len(data) < 4096 or len(whole) > 4096:
                return self.files(path, config, shapes, whole, sizes)
        return super().open(path)


@specimen("format", "test_save_never_overwrites")
class Overwrites(Plain):
    def save(self, files: ModelFiles, path: Path) -> None:
        self.write(files, path)


@specimen("format", "test_model_is_not_changed")
class SignsTheConfig(Plain):
    def write(self, files: ModelFiles, path: Path) -> None:
        super().write(files, path)
        files.config["written_by"] = "me"  # type: ignore[index]
