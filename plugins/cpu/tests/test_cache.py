"""The cache of packed weights: when it is used, when not, and what it says when it cannot be."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_graphs import PLAN, batch
from llama_plugin_cpu import cache as caches
from llama_plugin_cpu import native, pack, packfile
from llama_plugin_cpu import packs as packs_command
from llama_plugin_cpu.backend import CpuBackend
from llama_plugin_cpu.packfile import Pack, PackFault

from llama_core.announce import Announcements
from llama_core.builtin.gguf_format import GgufFormat
from llama_core.builtin.safetensors_format import SafetensorsFormat
from llama_core.contracts.format import ModelFiles
from llama_core.model.architectures import create
from llama_core.model.graph import Graph
from llama_core.model.rewrites import apply
from llama_core.model.rewrites.act import SetAct
from llama_core.model.rewrites.reencode import Reencode
from llama_core.model.rewrites.tensor import TensorSplit
from llama_core.model.weights import RenamedWeights, Weights, reencoded
from llama_core.testing import tiny

HIDDEN = np.random.default_rng(0).standard_normal((5, 32)).astype(np.float32)


@pytest.fixture(autouse=True)
def small_models_are_kept_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "LEAST_NUMBERS", 1)


@pytest.fixture
def said() -> Announcements:
    return Announcements()


@pytest.fixture
def backend(tmp_path: Path, said: Announcements) -> CpuBackend:
    return CpuBackend(threads=1, cache=str(tmp_path / "cache"), announcements=said)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model of a few thousand numbers that was not written just now."""
    return saved(tmp_path / "model", tiny.checkpoint())


def saved(path: Path, weights: Weights) -> Path:
    files = ModelFiles(path, "safetensors", dict(tiny.CONFIG), weights)
    SafetensorsFormat().save(files, path)
    age(path)
    return path


def age(path: Path, seconds: float = 60) -> None:
    then = time.time_ns() - int(seconds * 1e9)
    for file in path.iterdir() if path.is_dir() else [path]:
        os.utime(file, ns=(then, then))


def opened(path: Path) -> tuple[Graph, Weights]:
    architecture = create("llama")
    files = (SafetensorsFormat() if path.is_dir() else GgufFormat()).open(path)
    return architecture.build(files.config), RenamedWeights(files.weights, architecture.rename)


def logits(backend: CpuBackend, graph: Graph, weights: Weights) -> Any:
    program = backend.compile(graph, weights, PLAN)
    try:
        return program.submit(batch(HIDDEN)).result().logits_RV
    finally:
        program.close()


def packs(backend: CpuBackend) -> list[Path]:
    return backend.cache().paths()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every time that numbers of a tensor are taken from the model."""
    seen: list[str] = []
    one, two = pack.source, Weights.array

    def source(*given: Any, **more: Any) -> Any:
        seen.append("matrix")
        return one(*given, **more)

    def array(self: Weights, name: str) -> Any:
        seen.append(name)
        return two(self, name)

    monkeypatch.setattr(pack, "source", source)
    monkeypatch.setattr(Weights, "array", array)
    return seen


ENCODINGS = [
    None, "f16", "bf16", "f64", "q8:g32", "q4:g32:min", "q2:g16", "q1:g32", "nf4:g32", "gguf:q4_0",
]  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_second_time_nothing_is_read_and_no_bit_differs(
    encoding: str | None, tmp_path: Path, backend: CpuBackend, reads: list[str]
) -> None:
    base = tiny.checkpoint()

    def choose(name: str, about: Any) -> str | None:
        return encoding if len(about.shape) == 2 else None

    folder = saved(tmp_path / "m", reencoded(base, choose))
    bare = logits(CpuBackend(threads=1, cache="off"), *opened(folder))
    assert np.array_equal(logits(backend, *opened(folder)), bare)
    assert len(packs(backend)) == 1
    reads.clear()
    assert np.array_equal(logits(backend, *opened(folder)), bare)
    assert reads == []


def test_a_gguf_model_and_weights_rewritten_at_load_are_kept(
    tmp_path: Path, backend: CpuBackend, reads: list[str]
) -> None:
    path = tmp_path / "m.gguf"
    GgufFormat().save(ModelFiles(path, "gguf", dict(tiny.CONFIG), tiny.checkpoint()), path)
    age(path)
    rewrites = [Reencode("q8:g32"), SetAct("q8:32")]
    first = logits(backend, *apply(rewrites, *opened(path)))
    reads.clear()
    assert np.array_equal(logits(backend, *apply(rewrites, *opened(path))), first)
    assert reads == []


def test_each_part_of_what_went_in_has_a_file_of_its_own(
    folder: Path, backend: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph, weights = opened(folder)
    given: Mapping[str, Any] = {
        "plain": (graph, weights),
        "q8": apply([Reencode("q8:g32")], graph, weights),
        "q4": apply([Reencode("q4:g32")], graph, weights),
        "only": apply([Reencode("q4:g32", only="*.q_proj")], graph, weights),
        "rank 0": apply([TensorSplit(0, 2)], graph, weights),
        "rank 1": apply([TensorSplit(1, 2)], graph, weights),
    }
    keys = {name: caches.identity(*one).key for name, one in given.items()}
    monkeypatch.setattr(native, "packing", lambda: -1)
    keys["packing"] = caches.identity(graph, weights).key
    monkeypatch.undo()
    monkeypatch.setattr("llama_core.__version__", "0.0.0")
    keys["version"] = caches.identity(graph, weights).key
    monkeypatch.undo()
    # What changes how it runs but not how it is packed shares the file.
    assert caches.identity(*apply([SetAct("q8:32")], graph, weights)).key == keys["plain"]
    age(folder, 120)
    keys["time"] = caches.identity(*opened(folder)).key
    assert len(set(keys.values())) == len(keys)


def test_a_changed_model_is_packed_anew_and_the_old_file_goes(
    folder: Path, backend: CpuBackend, said: Announcements, tmp_path: Path
) -> None:
    logits(backend, *opened(folder))
    was = packs(backend)
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-3] ^= 0x40
    (folder / "model.safetensors").write_bytes(data)
    age(folder)
    after = logits(backend, *opened(folder))
    assert np.array_equal(after, logits(CpuBackend(threads=1, cache="off"), *opened(folder)))
    assert len(packs(backend)) == 1
    assert packs(backend) != was
    assert any("has changed" in text for text in said.counts)


def test_a_model_written_a_moment_ago_is_not_kept(folder: Path, backend: CpuBackend) -> None:
    age(folder, 0)
    logits(backend, *opened(folder))
    assert packs(backend) == []


def _flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def _index_at(path: Path) -> int:
    return int(packfile.HEAD.unpack(path.read_bytes()[: packfile.HEAD.size])[4])


@pytest.mark.parametrize(
    "harm",
    [
        lambda path: _flip(path, 0),
        lambda path: _flip(path, 8),
        lambda path: _flip(path, 17),
        lambda path: _flip(path, packfile.FIRST + 100),
        lambda path: _flip(path, _index_at(path) + 5),
        lambda path: os.truncate(path, path.stat().st_size - 1),
        lambda path: os.truncate(path, 100),
        lambda path: os.truncate(path, 0),
        lambda path: path.write_bytes(b"no pack at all" * 1000),
    ],
    ids=["magic", "format", "size", "body", "index", "cut", "head", "empty", "other"],
)
def test_a_damaged_file_is_made_anew_aloud(
    harm: Any, folder: Path, backend: CpuBackend, said: Announcements
) -> None:
    before = logits(backend, *opened(folder))
    [path] = packs(backend)
    harm(path)
    assert np.array_equal(logits(backend, *opened(folder)), before)
    assert [text for text in said.counts if "made anew" in text]
    assert Pack(path).faults() == []


@pytest.mark.parametrize("at", [0, 8, 16, 24, 32, 40, 48])
def test_a_head_that_lies_under_an_unbroken_seal_is_found_out(
    at: int, folder: Path, backend: CpuBackend
) -> None:
    logits(backend, *opened(folder))
    [path] = packs(backend)
    found = path.stat()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xff" * 8)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    if at == 8:  # format, and a word that is not used
        found_out = pytest.raises(PackFault, match="no file of packed weights")
    else:
        found_out = pytest.raises(PackFault)
    with found_out:
        Pack(path)


def test_damage_that_only_a_disk_can_do_is_found_by_the_digests(
    folder: Path, backend: CpuBackend
) -> None:
    logits(backend, *opened(folder))
    [path] = packs(backend)
    assert Pack(path).faults() == []
    found = path.stat()
    label, one = next(iter(Pack(path).sections.items()))
    _flip(path, one["parts"]["data"][0])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    assert Pack(path).faults() == [f"the section of {label} is damaged"]


def test_the_doctor_finds_a_flipped_byte_and_the_next_load_makes_the_file_anew(
    folder: Path, backend: CpuBackend, said: Announcements
) -> None:
    """Loading takes the sealed file on trust; the doctor reads every byte, and breaks the seal."""
    whole = logits(backend, *opened(folder))
    [path] = packs(backend)
    environment = {**os.environ, "LLAMA_CPU_CACHE": str(path.parent)}

    def doctor() -> list[str]:
        command = [sys.executable, "-m", "llama_core", "doctor", "--json"]
        done = subprocess.run(command, capture_output=True, env=environment, check=True)
        faults: list[str] = json.loads(done.stdout)["backends"]["cpu"]["faults"]
        return faults

    assert doctor() == []
    found = path.stat()
    label, one = next(iter(Pack(path).sections.items()))
    _flip(path, one["parts"]["data"][0])
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    [fault] = doctor()
    assert fault.startswith(f"{path}: the section of {label} is damaged")
    assert np.array_equal(logits(backend, *opened(folder)), whole)
    assert [text for text in said.counts if "made anew" in text]
    assert Pack(path).faults() == []
    assert doctor() == []


def test_another_process_that_packs_the_same_is_left_to_write(
    folder: Path, backend: CpuBackend, said: Announcements
) -> None:
    graph, weights = opened(folder)
    key = caches.identity(graph, weights).key
    part = backend.cache().folder / f"{key}.part"  # type: ignore[operator]
    part.parent.mkdir()
    with part.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        before = logits(backend, graph, weights)
        assert packs(backend) == []
        assert not said.counts
    part.write_bytes(b"left by a process that died" * 1000)
    assert np.array_equal(logits(backend, graph, weights), before)
    assert len(packs(backend)) == 1
    assert not part.exists()


def test_what_a_killed_process_began_is_removed_when_it_is_old_and_nobody_writes_it(
    folder: Path, backend: CpuBackend, said: Announcements
) -> None:
    where = backend.cache().folder
    assert where is not None
    where.mkdir()
    parts = {name: where / f"{name}.part" for name in ("old", "fresh", "held")}
    for part in parts.values():
        part.write_bytes(bytes(1000))
    age(parts["old"], caches.ABANDONED_SECONDS + 60)
    age(parts["held"], caches.ABANDONED_SECONDS + 60)
    with parts["held"].open("r+b") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        logits(backend, *opened(folder))
        assert sorted(where.glob("*.part")) == [parts["fresh"], parts["held"]]
    assert len(packs(backend)) == 1
    (told,) = [text for text in said.counts if "never finished" in text]
    assert f"{parts['old']} (1,000 bytes)" in told
    logits(backend, *opened(folder))  # found: nothing to write, so nothing to tidy
    assert parts["held"].exists()


def test_a_full_disk_costs_nothing_but_the_file(
    folder: Path, backend: CpuBackend, said: Announcements
) -> None:
    bare = logits(CpuBackend(threads=1, cache="off"), *opened(folder))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        assert np.array_equal(logits(backend, *opened(folder)), bare)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(backend.cache().folder.iterdir()) == []  # type: ignore[union-attr]
    [text] = said.counts
    assert os.strerror(errno.EFBIG) in text
    assert "LLAMA_CPU_CACHE" in text


def test_a_folder_that_cannot_be_made_is_said_and_the_model_runs(
    folder: Path, tmp_path: Path, said: Announcements
) -> None:
    (tmp_path / "file").write_text("")
    backend = CpuBackend(threads=1, cache=str(tmp_path / "file" / "cache"), announcements=said)
    bare = logits(CpuBackend(threads=1, cache="off"), *opened(folder))
    assert np.array_equal(logits(backend, *opened(folder)), bare)
    assert any("cannot be kept" in text for text in said.counts)


def test_a_folder_that_cannot_be_written_is_said_and_still_read(
    folder: Path,
    backend: CpuBackend,
    said: Announcements,
    reads: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits(backend, *opened(folder))

    def refuse(*_: Any, **__: Any) -> Any:  # root may write to a folder whatever its mode
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(os, "open", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    reads.clear()
    logits(backend, *opened(folder))
    assert reads == []
    logits(backend, *apply([Reencode("q8:g32")], *opened(folder)))
    assert any("Read-only file system" in text for text in said.counts)


def test_the_least_recently_used_goes_when_there_is_no_room(
    folder: Path, tmp_path: Path, said: Announcements
) -> None:
    one = CpuBackend(threads=1, cache=str(tmp_path / "cache"), announcements=said)
    models = [apply([Reencode(f"q{bits}:g32")], *opened(folder)) for bits in (8, 4, 3)]
    paths = []
    for model in models[:2]:
        logits(one, *model)
        paths += [path for path in packs(one) if path not in paths]
    for path, ago in zip(paths, (10, 20), strict=True):
        os.utime(path, ns=(time.time_ns() - ago * 10**9, path.stat().st_mtime_ns))
    logits(one, *models[1])  # used now, though it is the one used longest ago until here
    room = sum(path.stat().st_size for path in paths) + 1000
    small = CpuBackend(
        threads=1, cache=str(tmp_path / "cache"), cache_bytes=room, announcements=said
    )
    logits(small, *models[2])
    assert not paths[0].exists()
    assert paths[1].exists()
    assert len(packs(one)) == 2
    assert any("unused for the longest time" in text for text in said.counts)


def test_what_is_larger_than_the_bound_is_not_kept(folder: Path, tmp_path: Path) -> None:
    said = Announcements()
    one = CpuBackend(threads=1, cache=str(tmp_path / "c"), cache_bytes=9000, announcements=said)
    logits(one, *opened(folder))
    assert packs(one) == []
    assert any("9000 bytes" in text for text in said.counts)


def test_options_then_environment_then_the_users_folder(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert caches.settings("off", 0)[0] is None
    assert caches.settings("auto", 0)[1] == caches.MOST_BYTES
    if os.uname().sysname == "Linux":
        assert caches.settings("auto", 0)[0] == tmp_path / "xdg" / "llama-core" / "cpu"
    monkeypatch.setenv("LLAMA_CPU_CACHE_BYTES", "77")
    monkeypatch.setenv("LLAMA_CPU_CACHE", str(tmp_path / "env"))
    assert caches.settings("auto", 0) == (tmp_path / "env", 77)
    assert caches.settings(str(tmp_path / "option"), 99) == (tmp_path / "option", 99)
    monkeypatch.setenv("LLAMA_CPU_CACHE", "off")
    assert caches.settings("auto", 0)[0] is None
    monkeypatch.setenv("LLAMA_CPU_CACHE", str(tmp_path / "env"))
    monkeypatch.setenv("LLAMA_CPU_CACHE_BYTES", "much")
    with pytest.raises(Exception, match="must be a number of bytes"):
        caches.settings("auto", 0)


def test_weights_that_only_are_in_memory_are_packed_there(backend: CpuBackend) -> None:
    graph, weights = tiny.model()
    assert logits(backend, graph, weights) is not None
    assert packs(backend) == []


def test_a_small_model_is_not_worth_a_file(
    folder: Path, backend: CpuBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    logits(backend, *opened(folder))
    assert packs(backend) == []


def test_a_weight_that_is_no_number_leaves_no_file(tmp_path: Path, backend: CpuBackend) -> None:
    arrays = {name: np.array(tiny.checkpoint().array(name)) for name in tiny.checkpoint()}
    arrays["model.layers.1.mlp.down_proj.weight"][3, 3] = np.nan
    from llama_core.model.weights import DenseWeights

    folder = saved(tmp_path / "nan", DenseWeights(arrays))
    with pytest.raises(native.CpuError, match="down_proj"):
        backend.compile(*opened(folder), PLAN)
    assert list(backend.cache().folder.iterdir()) == []  # type: ignore[union-attr]


def test_the_file_may_be_removed_while_it_is_used(folder: Path, backend: CpuBackend) -> None:
    before = logits(backend, *opened(folder))
    program = backend.compile(*opened(folder), PLAN)
    assert backend.cache().clear() > 0
    assert packs(backend) == []
    assert np.array_equal(program.submit(batch(HIDDEN)).result().logits_RV, before)
    program.close()


def test_check_compares_the_model_with_what_it_was_and_clear_removes_all(
    folder: Path,
    backend: CpuBackend,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LLAMA_CPU_CACHE", str(backend.cache().folder))
    logits(backend, *opened(folder))
    assert packs_command.main(["check"]) == 0
    assert "model.safetensors" in capsys.readouterr().out
    monkeypatch.setattr(packs_command, "digest", lambda path: "other bytes")
    assert packs_command.main(["check", "--json"]) == 1
    [one] = json.loads(capsys.readouterr().out)["packs"]
    assert "under the same times" in one["faults"][0]
    age(folder, 120)
    assert packs_command.main(["check"]) == 1
    assert "has changed or gone since" in capsys.readouterr().out
    assert packs_command.main(["clear", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["freed_bytes"] == one["bytes"]
    assert packs(backend) == []


# What an up projection of the small model is packed to. Another digest is another layout: raise
# PACKING in native/matrix.h, so that files of the old one are not used, and write the new one here.
LAYOUTS = {
    "f32": (2, "788d556ff576f1b7"),
    "f16": (2, "91a8d2d8f68f382c"),
    "q8:g32": (2, "89c50969fd5f262c"),
    "q4:g32:min": (2, "f43905745a7729ce"),
    "nf4:g32": (2, "c4db894e966bffa9"),
    "q2:g32": (2, "94439918b030c020"),
    "q1:g32": (2, "af3049f1acdd816a"),
}


@pytest.mark.parametrize("encoding", LAYOUTS)
def test_the_layout_is_that_of_its_number(
    encoding: str, tmp_path: Path, backend: CpuBackend
) -> None:
    made = reencoded(tiny.checkpoint(), lambda _, one: encoding if len(one.shape) == 2 else None)
    logits(backend, *opened(saved(tmp_path / "m", made)))
    [path] = packs(backend)
    one = Pack(path).sections["layers.0.mlp.up_proj.weight"]
    assert (native.packing(), one["sha256"][:16]) == LAYOUTS[encoding]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what of a file is mapped")
def test_what_a_step_reads_whole_is_mapped_beforehand(tmp_path: Path) -> None:
    path = tmp_path / "one.pack"
    part = bytes(8 << 20)  # more than a huge page, which is mapped whole
    with path.open("wb") as file:
        writer = packfile.PackWriter(file, 1 << 30)
        for label in ("embed", "linear", "head"):
            writer.add(label, {}, {"data": part})
        writer.finish({"key": "k"})
    pack = Pack(path, "k")
    assert mapped_bytes(path) < len(part)
    pack.call_ahead({"linear", "head", "of another model"})
    until = time.monotonic() + 30
    while mapped_bytes(path) < 2 * len(part) and time.monotonic() < until:
        time.sleep(0.01)
    assert 2 * len(part) <= mapped_bytes(path) < 3 * len(part), "the embedding, read by rows, too"


def mapped_bytes(path: Path) -> int:
    """How much of a file is mapped for this process now."""
    maps = Path("/proc/self/smaps").read_text()
    of_it = maps.partition(str(path))[2]
    return int(of_it.partition("Rss:")[2].split()[0]) << 10


def test_a_model_larger_than_half_of_memory_is_not_called_for(
    backend: CpuBackend, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[Any] = []
    monkeypatch.setattr(Pack, "call_ahead", lambda self, labels: called.append(labels))
    first = logits(backend, *opened(folder))
    assert np.array_equal(first, logits(backend, *opened(folder)))
    assert len(called) == 1
    assert "lm_head.weight" in called[0]
    size = packs(backend)[0].stat().st_size
    monkeypatch.setattr(caches, "memory_bytes", lambda: 2 * size)
    assert np.array_equal(first, logits(backend, *opened(folder)))
    assert len(called) == 1
