"""Every distribution stands on its own feet.

Each is built as sdist, the wheel from that sdist, installed into a clean environment with what it
declares and nothing more, and runs its own tests there, from the unpacked sdist. An environment
that plugins share would hide a dependency that nobody declared; what they share is core's.
"""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from build import ProjectBuilder
from build.env import DefaultIsolatedEnv

from .rules import MEMBERS

ROOT = Path(__file__).parents[1]
FOLDERS = sorted(path.parent for where in MEMBERS for path in ROOT.glob(where))
EXTRAS = "optional-dependencies"
CONSTRAINTS = ROOT / "constraints.txt"
# What a parser makes of thousands of bytes is the same beside whatever is installed.
ELSEWHERE = ["tests/fuzz"]
# Most of core's time, and of what it imports little that the rest does not: whole in test-all.
LONGEST = ["tests/engine", "tests/model"]


def settings(folder: Path) -> dict:
    return tomllib.loads((folder / "pyproject.toml").read_text())


def is_heavy(folder: Path) -> bool:
    return bool(settings(folder).get("tool", {}).get("llama", {}).get("heavy"))


def parameters() -> list:
    quick = [
        pytest.param(
            each,
            ELSEWHERE + (LONGEST if each.name == "core" else []),
            id=each.name,
            marks=[pytest.mark.slow] if is_heavy(each) else [],
        )
        for each in FOLDERS
    ]
    return [*quick, pytest.param(ROOT / "core", ELSEWHERE, id="core whole", marks=pytest.mark.slow)]


def run(*command: str | Path, cwd: Path) -> str:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "PYTHON", "COV"))}
    done = subprocess.run(
        [str(each) for each in command],
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}"
    return done.stdout


until_the_end = ExitStack()
atexit.register(until_the_end.close)


@cache
def backend(requires: frozenset[str]) -> DefaultIsolatedEnv:
    """What a member declares that it is built with, and nothing more: one for all who say so."""
    made = until_the_end.enter_context(DefaultIsolatedEnv())
    made.install(requires)
    return made


def built(source: Path, kind: str, out: Path) -> Path:
    env = backend(frozenset(settings(source)["build-system"]["requires"]))
    builder = ProjectBuilder.from_isolated_env(env, source)
    env.install(builder.get_requires_for_build(kind))
    return Path(builder.build(kind, out))


def build(folder: Path, out: Path) -> tuple[Path, Path]:
    """The sdist of a member, and the wheel made from that sdist."""
    sdist = built(folder, "sdist", out)
    with TemporaryDirectory() as place, tarfile.open(sdist) as archive:
        archive.extractall(place, filter="data")
        (unpacked,) = Path(place).iterdir()
        return sdist, built(unpacked, "wheel", out)


class Environment:
    """A clean environment; one that lies on another sees what is installed there too."""

    def __init__(self, folder: Path, on: Environment | None = None) -> None:
        self.folder = folder
        with_pip = [] if on is None else ["--without-pip"]  # it sees the pip of the other too
        run(sys.executable, "-m", "venv", *with_pip, folder, cwd=folder.parent)
        self.python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        (self.packages,) = [*folder.glob("lib/*/site-packages"), *folder.glob("Lib/site-packages")]
        if on is not None:
            (self.packages / "below.pth").write_text(f"{on.packages}\n")

    def install(self, *wanted: str) -> None:
        run(
            self.python, "-m", "pip", "install", "-q", "--no-compile", "-c", CONSTRAINTS, *wanted,
            cwd=self.folder,
        )  # fmt: skip
        run(self.python, "-m", "pip", "check", cwd=self.folder)


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return build(ROOT / "core", tmp_path_factory.mktemp("core"))


@pytest.fixture(scope="module")
def core_alone(core: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Core with what testing takes, which every plugin's tests need: made once, under them all."""
    made = Environment(tmp_path_factory.mktemp("environment") / "env")
    made.install(f"llama-core[testing] @ {core[1].as_uri()}", "pytest-xdist")
    return made


@pytest.mark.parametrize(("folder", "ignored"), parameters())
def test_it_installs_alone_and_passes_its_own_tests(
    folder: Path,
    ignored: list[str],
    core: tuple[Path, Path],
    core_alone: Environment,
    tmp_path: Path,
) -> None:
    sdist, wheel = core if folder.name == "core" else build(folder, tmp_path / "dist")
    check_contents(folder, sdist, wheel)
    alone = core_alone
    if folder.name != "core":
        project = settings(folder)["project"]
        extra = "[testing]" if "testing" in project.get(EXTRAS, {}) else ""
        alone = Environment(tmp_path / "env", on=core_alone)
        alone.install(f"{project['name']}{extra} @ {wheel.as_uri()}")

    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "sdist", filter="data")
    (unpacked,) = (tmp_path / "sdist").iterdir()
    assert (unpacked / "tests").is_dir()
    command = ["-m", "pytest", "-q", "--import-mode=importlib", "-p", "no:cacheprovider"]
    # These files are few and come last: what they start has every core to itself.
    command += ["--numprocesses", "auto", "--maxprocesses", "8", "--dist", "loadfile"]
    command += [f"--ignore={each}" for each in ignored]
    # The tests see the installed package alone: the sources lie elsewhere in the sdist.
    out = run(alone.python, *command, "-m", "not slow", "tests", cwd=unpacked)
    assert " passed" in out


def check_contents(folder: Path, sdist: Path, wheel: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {each.partition("/")[2] for each in archive.getnames()}
    for needed in ("LICENSE", "README.md", "CHANGELOG.md", "pyproject.toml"):
        assert needed in names, f"{sdist.name} has no {needed}"
    with zipfile.ZipFile(wheel) as archive:
        tops = {each.split("/")[0] for each in archive.namelist()}
        info = next(each for each in tops if each.endswith(".dist-info"))
        licences = [n for n in archive.namelist() if n.startswith(info) and "LICENSE" in n]
    assert licences, f"{wheel.name} has no licence"
    expected = {each.parent.name for each in folder.glob("src/*/__init__.py")}
    assert tops - {info} == expected, f"{wheel.name} holds {tops}"
