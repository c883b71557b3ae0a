"""What plugins need besides comes from one package index: wheels, by digest, and never moves
what is here. A real pip asks a real server."""

from __future__ import annotations

import ensurepip
import functools
import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llama_marketplace.install import locking, packages
from llama_marketplace.install.faults import CannotResolve, InstallFailed
from llama_marketplace.install.packages import Packages
from llama_marketplace.install.planning import Wanted
from llama_marketplace.wheels import WheelRefused

from llama_core.errors import ConfigError, LlamaError

from ..wheels.making import Made
from .conftest import Shop

NAME = "llama-plugin-rhyme"
NEEDS = ("llama-core>=0.1", "metre-fast>=1")


class Index:
    """A package index of static pages."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, f"{url}/simple/"

    def put(self, made: Made, *, digest: str = "") -> Path:
        wheel = made.write(self.folder / "files")
        self.page(made.name, wheel, digest=digest)
        return wheel

    def page(self, name: str, file: Path, *, digest: str = "") -> None:
        page = self.folder / "simple" / name / "index.html"
        page.parent.mkdir(parents=True, exist_ok=True)
        mark = f"#sha256={digest or hashlib.sha256(file.read_bytes()).hexdigest()}"
        before = page.read_text() if page.exists() else "<!DOCTYPE html>"
        page.write_text(f'{before}<a href="/files/{file.name}{mark}">{file.name}</a>\n')


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "pypi"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Index(folder, f"http://127.0.0.1:{server.server_port}")
        server.shutdown()


@pytest.fixture
def served(shop: Shop, index: Index) -> Shop:
    """A shop with a plugin that needs a package."""
    shop.packages = Packages(index.url)
    shop.market.publish(Made(requires=NEEDS))
    return shop


def metre(version: str = "1.0", **more: object) -> Made:
    """What the plugin needs: a distribution that is no plugin."""
    made = Made(plugin="metre", dist="metre-fast", version=version, requires=())
    for key, value in more.items():
        setattr(made, key, value)
    info = made.info
    made.without = (f"{info}/entry_points.txt", "llama_plugin_metre/plugin.toml")
    return made


def test_it_is_laid_beside_and_goes_with_who_needed_it(served: Shop, index: Index) -> None:
    index.put(metre())
    index.put(metre("0.9"))
    served.install(NAME)
    assert served.versions() == {NAME: "1.0", "metre-fast": "1.0"}
    assert served.problems() == []
    index.put(metre("1.5"))
    served.market.publish(Made(plugin="reason"))
    served.install("llama-plugin-reason")  # what is there already is kept, and pip is not asked
    assert served.versions()["metre-fast"] == "1.0"
    served.carry_out(served.planner.uninstall(["rhyme"]))
    assert served.versions() == {"llama-plugin-reason": "1.0"}


@pytest.mark.slow
def test_two_that_need_it_agree_or_are_refused(served: Shop, index: Index) -> None:
    index.put(metre())
    index.put(metre("2.0"))
    served.market.publish(Made(plugin="old", requires=("llama-core>=0.1", "metre-fast<2")))
    served.market.publish(Made(plugin="new", requires=("llama-core>=0.1", "metre-fast>=2")))
    served.install(NAME)
    assert served.versions()["metre-fast"] == "2.0"
    served.install("llama-plugin-old")  # it moves, for nothing outside of the plugins needs it
    assert served.versions()["metre-fast"] == "1.0"
    with pytest.raises(CannotResolve):
        served.install("llama-plugin-new")
    assert served.versions()["metre-fast"] == "1.0"


def test_a_lock_file_brings_the_same_elsewhere(served: Shop, index: Index, tmp_path: Path) -> None:
    index.put(metre())
    served.install(NAME)
    lock = tmp_path / "marketplace.lock"
    locking.write(lock, served.generations.current().dists)
    index.put(metre("1.5"))
    served.market.publish(Made(version="3.0", requires=NEEDS))
    served.carry_out(served.planner.uninstall([NAME]))
    served.carry_out(served.planner.exactly(locking.read(lock)))
    assert served.versions() == {NAME: "1.0", "metre-fast": "1.0"}
    wheel = index.put(metre(files={"llama_plugin_metre/x.py": b"other"}))
    served.carry_out(served.planner.uninstall([NAME]))
    with pytest.raises(CannotResolve, match="(?i)hash"):
        served.carry_out(served.planner.exactly(locking.read(lock)))
    assert wheel.exists()
    assert served.versions() == {}


# What the package index has, and why nothing comes of it.
DECOYS: dict[str, tuple[Callable[[Index], object], type[LlamaError], str]] = {
    "nothing": (lambda index: None, CannotResolve, "metre-fast"),
    "an sdist": (
        lambda index: index.page("metre-fast", _sdist(index)), CannotResolve, "metre-fast"),
    "a wheel that is not its digest": (
        lambda index: index.put(metre(), digest="0" * 64), CannotResolve, "(?i)hash"),
    "a wheel with a .pth": (
        lambda index: index.put(metre(files={"x.pth": b"import os"})), WheelRefused, "x.pth"),
    "a wheel that shadows": (
        lambda index: index.put(metre(files={"json.py": b""})), WheelRefused, "json"),
    "a wheel with a module that is here": (
        lambda index: index.put(metre(files={"numpy/x.py": b""})), InstallFailed, "'numpy'"),
    "a wheel that moves what is here": (
        lambda index: index.put(metre(requires=("numpy<1",))), CannotResolve,
        "metre-fast 1.0 depends on numpy<1; here is numpy=="),
    "a plugin that nobody signed": (
        lambda index: index.put(Made(plugin="metre", dist="metre-fast")), InstallFailed,
        "no index that you trust signs for it"),
}  # fmt: skip


def _sdist(index: Index) -> Path:
    file = index.folder / "files" / "metre_fast-1.0.tar.gz"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"setup.py would run")
    return file


# Each starts pip three times, so that only these are tried every time.
QUICK = ("a wheel with a .pth", "a plugin that nobody signed", "an sdist")


@pytest.mark.parametrize(
    "what", [pytest.param(each, marks=() if each in QUICK else pytest.mark.slow) for each in DECOYS]
)
def test_a_decoy_is_refused(served: Shop, index: Index, what: str) -> None:
    put, error, word = DECOYS[what]
    put(index)
    with pytest.raises(error, match=word) as caught:
        served.install(NAME)
    assert str(caught.value).isprintable()
    assert (served.versions(), served.generations.numbers()) == ({}, [])


def test_a_name_of_the_market_is_not_taken_from_the_package_index(
    served: Shop, index: Index
) -> None:
    """Dependency confusion: a higher version elsewhere does not count."""
    index.put(metre(requires=("llama-plugin-reason",)))
    index.put(Made(plugin="reason", version="99.0"))
    served.market.publish(Made(plugin="reason"))
    with pytest.raises(CannotResolve, match="is a plugin of an index that you trust"):
        served.install(NAME)


def test_only_one_index_is_asked(
    served: Shop, index: Index, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    index.put(metre())
    elsewhere = tmp_path / "elsewhere"
    metre("9.0").write(elsewhere)
    monkeypatch.setenv("PIP_FIND_LINKS", str(elsewhere))
    served.install(NAME)
    assert served.versions()["metre-fast"] == "1.0"
    assert "which is left out" in caplog.text


def test_a_dry_run_changes_nothing(served: Shop, index: Index) -> None:
    index.put(metre())
    plan = served.planner.install([Wanted(NAME)])
    assert [(each.name, each.version) for each in plan.packages] == [("metre-fast", "1.0")]
    assert served.versions() == {}


# Lines of a lock file that somebody changed by hand.
FORGED = {
    "a version that is an option": ('version = "1.0"', 'version = "1.0 --index-url http://x"'),
    "a second line": ('version = "1.0"', 'version = "1.0\\n--index-url http://x"'),
    "a name that leads elsewhere": ('filename = "', 'filename = "../'),
    "no digest": ('sha256 = "', 'sha256 = "x'),
    "an unknown word": ("size = ", "run = true\nsize = "),
    "another form": ("version = 1\n", "version = 2\n"),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_lock_file_is_refused(shop: Shop, tmp_path: Path, what: str) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    lock = tmp_path / "marketplace.lock"
    locking.write(lock, shop.generations.current().dists)
    old, new = FORGED[what]
    text = lock.read_text()
    assert old in text
    lock.write_text(text.replace(old, new))
    with pytest.raises(ConfigError):
        locking.read(lock)


@pytest.mark.slow
def test_without_pip_the_one_that_python_brings_is_used_or_missed(
    served: Shop, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    index.put(metre())
    if list((Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl")):
        served.install(NAME)
        assert served.versions()["metre-fast"] == "1.0"
    else:
        with pytest.raises(CannotResolve, match="-m ensurepip"):
            served.install(NAME)
