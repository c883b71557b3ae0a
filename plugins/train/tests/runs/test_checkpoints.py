"""A checkpoint is whole or not there, is checked when loaded, and the last good one stays."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.runs import CheckpointError, Checkpoints, ForeignCheckpoint, Piece, Region
from llama_plugin_train.runs import parts as parts_module

from llama_core.announce import Announcements
from llama_core.contracts.storage import SPEC, Storage
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins


def storage_in(folder: Path) -> Storage:
    return Plugins.load().create(SPEC, "folder", {"root": str(folder)})


def opened(folder: Path, **options: Any) -> Checkpoints:
    return Checkpoints(storage_in(folder / "store"), folder / "scratch", **options)


def arrays(seed: int = 0) -> dict[str, Any]:
    dice = np.random.default_rng(seed)
    return {
        "embed.weight": dice.standard_normal((7, 5), np.float32),
        "step": np.array(seed, np.int64),
        "rng": dice.integers(0, 256, 33, np.uint8),
        "half": dice.standard_normal(3).astype(np.float16),
        "none": np.empty((0, 4), np.float64),
        "mask": np.array([True, False]),
    }


def same(found: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return found.keys() == wanted.keys() and all(
        found[name].dtype == one.dtype and np.array_equal(found[name], one)
        for name, one in wanted.items()
    )


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    """Every bit, type and shape comes back, empty and zero-dimensional ones too."""
    opened(tmp_path).save(3, arrays(), {"loss": 0.1, "rows": [1, 2]})
    found, facts = opened(tmp_path).load(3)
    assert same(found, arrays())
    assert facts == {"loss": 0.1, "rows": [1, 2]}
    assert opened(tmp_path).verify(3) == []


def test_an_array_larger_than_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts_module, "PART_BYTES", 64)
    opened(tmp_path).save(0, arrays(), {})
    files = [path.name for path in (tmp_path / "store" / "step-0000000000").iterdir()]
    assert sum(name.endswith(".safetensors") for name in files) > 1
    assert same(opened(tmp_path).load(0)[0], arrays())


def test_the_newest_is_found_and_the_old_go(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path, keep=2, keep_every=100)
    assert checkpoints.latest() is None
    for step in (100, 150, 170, 190):
        checkpoints.save(step, arrays(step), {})
    assert checkpoints.steps() == [100, 170, 190]
    assert checkpoints.latest() == 190


def test_none_is_deleted_where_none_that_stays_is_good(tmp_path: Path) -> None:
    """A disk that damages all it writes does not cost the last good checkpoint."""
    opened(tmp_path).save(1, arrays(1), {})

    class Damaging:
        """Damages every part once it was put."""

        def __init__(self) -> None:
            self.inner = storage_in(tmp_path / "store")

        def put(self, source: Path, name: str) -> None:
            self.inner.put(source, name)
            if name.endswith(".safetensors"):
                with (tmp_path / "store" / name).open("r+b") as file:
                    file.write(b"~")

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

    said = Announcements()
    checkpoints = Checkpoints(Damaging(), tmp_path / "scratch", keep=1, announcements=said)
    checkpoints.save(2, arrays(2), {})
    assert checkpoints.steps() == [1, 2]
    assert any("none of [1] is deleted" in text for text in said.counts)
    assert checkpoints.latest_good() == 1
    assert any("step 2 cannot be used" in text for text in said.counts)


def test_saving_a_step_again_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).save(1, arrays(1), {})
    with pytest.raises(CheckpointError, match="of step 1 already.*Discard"):
        opened(tmp_path).save(1, arrays(2), {})
    assert same(opened(tmp_path).load(1)[0], arrays(1))
    opened(tmp_path).discard(1)
    opened(tmp_path).save(1, arrays(2), {})
    assert same(opened(tmp_path).load(1)[0], arrays(2))


def test_a_save_on_a_thread_holds_what_was_given(tmp_path: Path) -> None:
    """Arrays and facts may change as soon as the call is back."""
    checkpoints, given, facts = opened(tmp_path), arrays(), {"rows": [1]}
    checkpoints.save_async(5, given, facts)
    for one in given.values():
        one[...] = 0
    facts["rows"].append(2)
    checkpoints.wait()
    found, kept = checkpoints.load(5)
    assert same(found, arrays())
    assert kept == {"rows": [1]}


def test_what_fails_on_the_thread_is_raised_once(tmp_path: Path) -> None:
    checkpoints = Checkpoints(Full(storage_in(tmp_path / "store"), 1), tmp_path / "scratch")
    checkpoints.save_async(5, arrays(), {})
    with pytest.raises(CheckpointError, match="step 5.*No space left"):
        checkpoints.wait()
    checkpoints.wait()


class Full:
    """A storage whose n-th call finds the disk full, and every one after it."""

    def __init__(self, inner: Storage, calls: int) -> None:
        self.inner, self.left = inner, calls

    def _spend(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise LlamaError("cannot store: No space left on device")

    def put(self, source: Path, name: str) -> None:
        self._spend()
        self.inner.put(source, name)

    def get(self, name: str, target: Path) -> None:
        self.inner.get(name, target)

    def list(self, prefix: str = "") -> Iterator[str]:
        return self.inner.list(prefix)

    def delete(self, name: str) -> None:
        self._spend()
        self.inner.delete(name)


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """Wherever it fills, the old checkpoint is the latest, is good, and the error says so."""
    failures = 0
    for calls in range(12):
        folder = tmp_path / str(calls)
        opened(folder).save(1, arrays(1), {})
        checkpoints = Checkpoints(
            Full(storage_in(folder / "store"), calls), folder / "scratch", keep=1
        )
        said = ""
        try:
            checkpoints.save(2, arrays(2), {})
        except LlamaError as error:
            said = str(error)
        latest = opened(folder).latest()
        if said:
            failures += 1
            assert "No space left" in said
            assert "step 1 is as it was" in said
        assert latest == (1 if said else 2)
        assert opened(folder).verify(latest) == []
        assert same(opened(folder).load(latest)[0], arrays(latest))
    assert 3 <= failures < 12


def test_another_run_is_named(tmp_path: Path) -> None:
    mine = {"model": {"hidden_size": 64, "layers": 2}, "tokenizer": "abc"}
    opened(tmp_path, identity=mine).save(1, arrays(), {})
    other = {"model": {"hidden_size": 128, "layers": 2}, "tokenizer": "abc"}
    with pytest.raises(ForeignCheckpoint, match="model.hidden_size is 64 there and 128 here"):
        opened(tmp_path, identity=other).load(1)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["pytorch_model.bin"], "pickles of torch, which are never opened"),
        (["config.json", "model.safetensors"], "a Hugging Face folder"),
        (["notes"], "'notes'"),
    ],
)
def test_files_of_other_programs_are_named(tmp_path: Path, files: list[str], said: str) -> None:
    (tmp_path / "store").mkdir()
    for name in files:
        (tmp_path / "store" / name).write_bytes(b"{}")
    with pytest.raises(ForeignCheckpoint, match=said):
        opened(tmp_path).latest()


@pytest.mark.parametrize(
    ("manifest", "said"),
    [(b'{"weight_map": {}}', "not the manifest"), (b"{", "damaged"), (b"", "damaged")],
)
def test_a_manifest_of_another_program(tmp_path: Path, manifest: bytes, said: str) -> None:
    source = tmp_path / "manifest"
    source.write_bytes(manifest)
    storage_in(tmp_path / "store").put(source, "step-0000000001/manifest.json")
    with pytest.raises(LlamaError, match=said):
        opened(tmp_path).load(1)
    assert said in opened(tmp_path).verify(1)[0]


def damage(path: Path, dice: random.Random) -> None:
    """Flip one bit, or cut the file."""
    data = bytearray(path.read_bytes())
    if dice.random() < 0.2:
        path.write_bytes(data[: dice.randrange(len(data))])
        return
    at = dice.randrange(len(data))
    data[at] ^= 1 << dice.randrange(8)
    path.write_bytes(data)


def check_damages(tmp_path: Path, count: int) -> None:
    checkpoints, dice = opened(tmp_path), random.Random(0)
    checkpoints.save(1, arrays(), {"loss": 1.5})
    files = sorted(p for p in (tmp_path / "store").rglob("*") if p.is_file())
    bodies = {path: path.read_bytes() for path in files}
    missed = []
    for number in range(count):
        path = dice.choice(files)
        damage(path, dice)
        if not checkpoints.verify(1):
            missed.append((number, path))
        path.write_bytes(bodies[path])
    assert missed == []
    assert checkpoints.verify(1) == []


def test_damage_is_noticed(tmp_path: Path) -> None:
    """A flipped bit or a cut anywhere, in what the storage keeps beside the files too."""
    check_damages(tmp_path, 300)


@pytest.mark.slow
def test_damage_is_always_noticed(tmp_path: Path) -> None:
    check_damages(tmp_path, 10_000)


def test_damage_that_the_storage_misses_is_named(tmp_path: Path) -> None:
    """Where a storage keeps no digest, or that of the damaged file, the manifest's is the judge."""
    opened(tmp_path).save(1, arrays(), {})
    name = "step-0000000001/part-00000-of-00001-000.safetensors"
    data = bytearray((tmp_path / "store" / name).read_bytes())
    data[-1] ^= 1
    (tmp_path / "changed").write_bytes(data)
    storage_in(tmp_path / "store").put(tmp_path / "changed", name)
    assert opened(tmp_path).verify(1) == [
        f"{name} is damaged: its digest is not the one in the manifest"
    ]
    with pytest.raises(LlamaError, match=name):
        opened(tmp_path).load(1)


def test_a_manifest_under_another_step_is_refused(tmp_path: Path) -> None:
    opened(tmp_path).save(1, arrays(), {})
    storage = storage_in(tmp_path / "store")
    for name in list(storage.list("step-")):
        storage.get(name, tmp_path / "moved")
        storage.put(tmp_path / "moved", name.replace("0001/", "0002/"))
    with pytest.raises(ForeignCheckpoint, match="of step 1: it was moved"):
        opened(tmp_path).load(2)


@pytest.mark.parametrize(("writers", "readers"), [(1, 3), (2, 3), (3, 2), (4, 1)])
def test_saved_by_some_ranks_and_loaded_by_others(
    tmp_path: Path, writers: int, readers: int
) -> None:
    """Rows are split unevenly; every reader gets its own, and one reader gets all."""
    whole = np.arange(70, dtype=np.float32).reshape(10, 7)
    for rank in range(writers):
        first, last = 10 * rank // writers, 10 * (rank + 1) // writers
        given = {"w": Piece(whole[first:last], (first, 0), (10, 7))}
        if rank == writers - 1:
            given["step"] = np.array(9)
        opened(tmp_path).write_part(9, rank, writers, given)
        assert opened(tmp_path).steps() == []
    opened(tmp_path).commit(9, writers, {"loss": 1})
    for rank in range(readers):
        first, last = 7 * rank // readers, 7 * (rank + 1) // readers
        found, _ = opened(tmp_path).load(9, {"w": Region((0, first), (10, last - first))})
        assert np.array_equal(found["w"], whole[:, first:last])
    found, facts = opened(tmp_path).load(9)
    assert np.array_equal(found["w"], whole)
    assert (int(found["step"]), facts) == (9, {"loss": 1})


def test_a_rank_that_gave_too_little_or_twice_is_named(tmp_path: Path) -> None:
    whole = np.zeros((4, 2), np.float32)
    for step, first in ((1, 3), (2, 1)):
        opened(tmp_path).write_part(step, 0, 2, {"w": Piece(whole[:2], (0, 0), (4, 2))})
        opened(tmp_path).write_part(step, 1, 2, {"w": Piece(whole[first:], (first, 0), (4, 2))})
    with pytest.raises(CheckpointError, match="'w' whole: 6 of 8 numbers"):
        opened(tmp_path).commit(1, 2, {})
    with pytest.raises(CheckpointError, match="'w' whole: the pieces at .* overlap"):
        opened(tmp_path).commit(2, 2, {})


def test_what_cannot_be_kept_is_named(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    with pytest.raises(CheckpointError, match="'names' holds"):
        checkpoints.save(1, {"names": np.array(["a"])}, {})
    with pytest.raises(CheckpointError, match="facts of a checkpoint must be JSON"):
        checkpoints.save(1, {}, {"loss": float("nan")})
    checkpoints.save(1, {"a": np.zeros(3)}, {})
    with pytest.raises(CheckpointError, match="region at"):
        checkpoints.load(1, {"a": Region((1,), (3,))})
    with pytest.raises(CheckpointError, match="no array named 'b'"):
        checkpoints.load(1, {"b": Region((0,), (3,))})


def test_what_interrupted_saves_left_is_swept(tmp_path: Path) -> None:
    opened(tmp_path).save(1, arrays(), {})
    opened(tmp_path).write_part(2, 0, 2, {"a": np.zeros(3)})
    opened(tmp_path).sweep()
    assert {path.name for path in (tmp_path / "store").iterdir()} == {
        ".digests",
        ".parts",
        "step-0000000001",
    }
    shutil.rmtree(tmp_path / "scratch")
    assert opened(tmp_path).verify(1) == []
