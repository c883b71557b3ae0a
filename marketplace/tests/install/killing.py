"""Installs in a child that kills itself at one of its steps, and looks at what is left: a program.

`python killing.py FOLDER STEP...` takes a folder with `old` and `new` wheels; a step is a number,
or `count`. A step is a call that opens for writing, makes, renames, links or removes something in
the environment's folder: between two of them the disk does not change. One line of JSON tells of
each.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from llama_marketplace.index.record import read
from llama_marketplace.install import transaction
from llama_marketplace.install.base import Base
from llama_marketplace.install.generations import Generations
from llama_marketplace.install.packages import Packages
from llama_marketplace.install.planning import Planner, Wanted
from llama_marketplace.install.verifying import problems
from market import Market, Untried

from llama_core import overlay

NAME = "llama-plugin-rhyme"
WATCHED = {"open", "os.mkdir", "os.rename", "os.link", "os.remove", "os.rmdir", "os.chmod"}


class Steps:
    """Counts what is done in a folder, and ends the process at one of them."""

    def __init__(self, folder: Path, last: int | None) -> None:
        self.folder, self.last, self.num = str(folder), last, 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple) -> None:
        if event not in WATCHED or not str(arguments[0]).startswith(self.folder):
            return
        if event == "open" and not (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR):
            return
        self.num += 1
        if self.num == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


def install(market: Market, home: Path) -> None:
    generations, packages = Generations(home), Packages()
    planner = Planner([market], generations, packages)  # type: ignore[list-item]
    plan = planner.install([Wanted(NAME)])
    transaction.carry_out(plan, generations, packages, Base())


def seen(home: Path) -> dict:
    generations = Generations(home)
    now = generations.current()
    return {
        "versions": {each.name: each.version for each in now.dists},
        "problems": list(problems(generations, Base())),
    }


def in_child(work: object) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            work()  # type: ignore[operator]
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path, steps: list[str]) -> None:
    transaction.Trial = Untried  # tried elsewhere; it writes nothing there
    old, new = Market(folder / "old"), Market(folder / "new")
    for market in (old, new):
        for line in market.folder.with_suffix(".records").read_bytes().splitlines():
            record = read(line, source="the test")
            market.records.setdefault(record.name, []).append(record)
    home = folder / "home"
    overlay.home = lambda prefix=None: home  # type: ignore[assignment]
    install(old, home)
    before = folder / "before"
    shutil.copytree(home, before)

    def killed(last: int | None) -> None:
        watch = Steps(home, last)
        install(new, home)
        (folder / "count").write_text(str(watch.num))

    for step in steps:
        shutil.rmtree(home)
        shutil.copytree(before, home)
        if step == "count":
            code = in_child(lambda: killed(None))
            print(json.dumps({"count": int((folder / "count").read_text()), "code": code}))
            continue
        code = in_child(lambda step=step: killed(int(step)))
        found = seen(home)
        again = in_child(lambda: install(new, home))
        left = (home / "staging").exists()
        told = {"step": int(step), "code": code, **found, "again": again, "staging": left}
        print(json.dumps({**told, "after": seen(home)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
