"""A program that saves checkpoints in children that kill themselves, one at each step of a save.

What counts as a step is everything that changes the disk, as the interpreter's audit events tell
it: no seam in what is tested. For each child a line says where it died and what could be loaded
after it. Run as `python dying.py FOLDER KEEP`.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
from llama_plugin_train.runs import Checkpoints

from llama_core.contracts.storage import SPEC
from llama_core.errors import LlamaError
from llama_core.plugins import Plugins

PLUGINS = Plugins.load()


def opened(folder: Path, keep: int) -> Checkpoints:
    storage = PLUGINS.create(SPEC, "folder", {"root": str(folder / "store")})
    return Checkpoints(storage, folder / "scratch", keep=keep)


def arrays(step: int) -> dict[str, np.ndarray]:
    return {f"w{i}": np.full((50, 50), step * 10 + i, np.float32) for i in range(3)}


def kill_at(count: int, folder: Path) -> None:
    """Die at the n-th event that changes the disk below a folder; fsync counts too."""
    left, inside = [count], str(folder)
    changes = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")

    def spend() -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def hook(event: str, given: tuple[object, ...]) -> None:
        if event not in changes or not str(given[0]).startswith(inside):
            return
        if event == "open" and isinstance(given[2], int) and given[2] & 3 == os.O_RDONLY:
            return
        spend()

    fsync = os.fsync

    def dying_fsync(handle: int) -> None:
        spend()
        fsync(handle)

    os.fsync = dying_fsync
    sys.addaudithook(hook)


def child(folder: Path, keep: int, count: int) -> bool:
    """Save step 2 over step 1 in a child; whether it was killed."""
    pid = os.fork()
    if pid == 0:
        kill_at(count, folder)
        opened(folder, keep).save(2, arrays(2), {"step": 2})
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def after(folder: Path, keep: int) -> dict[str, object]:
    """What there is, and whether all of it is good and training could go on."""
    found = opened(folder, keep)
    left = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    good, latest = {}, found.latest()
    for step in found.steps():
        loaded, facts = found.load(step)
        good[step] = facts == {"step": step} and all(
            np.array_equal(loaded[name], one) for name, one in arrays(step).items()
        )
    unchanged = left == {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    found.sweep()
    folders = {path.parent.name for path in (folder / "store").glob("step-*/*")}
    swept = folders == {f"step-{step:010}" for step in good}
    if latest == 1:
        found.save(2, arrays(2), {"step": 2})
    again = found.verify(2) == [] and found.latest() == 2
    return {
        "latest": latest, "good": good, "unchanged": unchanged, "swept": swept, "again": again,
    }  # fmt: skip


def full_disk(folder: Path, limit: int) -> str:
    """What a save says where no file may grow beyond a limit."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        said = "saved"
        try:
            opened(folder, 2).save(2, arrays(2), {"step": 2})
        except LlamaError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    os.waitpid(pid, 0)
    with os.fdopen(read) as file:
        return file.read()


def main(root: Path, keep: int) -> None:
    for count in range(10_000):
        folder = root / "run"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        opened(folder, keep).save(1, arrays(1), {"step": 1})
        killed = child(folder, keep, count)
        print(json.dumps({"count": count, "killed": killed, **after(folder, keep)}), flush=True)
        if not killed:
            break
    for limit in (0, 100, 10_000, 1_000_000):
        shutil.rmtree(root / "run")
        opened(root / "run", keep).save(1, arrays(1), {"step": 1})
        said = full_disk(root / "run", limit)
        print(json.dumps({"limit": limit, "said": said, **after(root / "run", keep)}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
