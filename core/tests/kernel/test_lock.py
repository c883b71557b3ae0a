"""Locked mode: what the lock file names, by version and digest, is loaded, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from llama_core import lock
from llama_core.catalogue import State
from llama_core.discovery import discover
from llama_core.errors import ConfigError, PluginDisabled
from llama_core.testing.site import Site

Install = Callable[..., Path]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "llama.lock"


def lock_all(site: Site, file: Path) -> dict[str, lock.Locked]:
    with site.on_path():
        return lock.write(file, discover([str(site.folder)]))


def kept_out(site: Site, file: Path, name: str = "a") -> str:
    with site.plugins(locked=True, lock_file=file) as plugins:
        assert plugins.create("sampler", "greedy")  # the builtins are the core's own
        with pytest.raises(PluginDisabled) as caught:
            plugins.create("transform", name)
        assert plugins[name].state is State.DISABLED
    text = str(caught.value)
    prefix = f"plugin '{name}' {plugins[name].found.version} is kept out by locked mode: "
    remedy = ". If you trust it: llama plugins lock"
    assert text.startswith(prefix)
    assert text.endswith(remedy)
    return text.removeprefix(prefix).removesuffix(remedy)


def is_let_in(site: Site, file: Path) -> bool:
    with site.plugins(locked=True, lock_file=file) as plugins:
        return bool(plugins.create("transform", "a"))


class TestLocked:
    def test_what_was_locked_is_loaded(self, site: Site, install: Install, file: Path) -> None:
        install("a")
        entries = lock_all(site, file)
        assert set(entries) == {"a"}
        assert entries == lock.read(file)
        assert is_let_in(site, file)
        assert is_let_in(site, file)  # the bytecode that the first import left is no change

    def test_what_was_not_is_not(self, site: Site, install: Install, file: Path) -> None:
        install("a")
        lock_all(site, file)
        install("b")
        assert kept_out(site, file, "b") == "the lock file does not name it"
        assert is_let_in(site, file)

    def test_another_version_is_not(self, site: Site, install: Install, file: Path) -> None:
        install("a", version="0.1.0")
        lock_all(site, file)
        (site.folder / "llama_plugin_a-0.1.0.dist-info").rename(site.folder / "gone")
        install("a", version="0.2.0")
        assert kept_out(site, file) == "the lock file names llama-plugin-a 0.1.0"

    def test_another_distribution_of_that_name_is_not(
        self, site: Site, install: Install, file: Path
    ) -> None:
        install("a")
        lock_all(site, file)
        (site.folder / "llama_plugin_a-0.1.0.dist-info").rename(site.folder / "gone")
        install("a", dist="impostor")
        assert kept_out(site, file) == "the lock file names llama-plugin-a 0.1.0"

    @pytest.mark.parametrize(
        "path",
        [
            "llama_plugin_a/__init__.py",
            "llama_plugin_a/plugin.toml",
            "llama_plugin_a/deep/data.bin",
            "llama_plugin_a-0.1.0.dist-info/entry_points.txt",
            "beside_it.py",
        ],
    )
    def test_one_changed_byte_keeps_it_out(
        self, site: Site, install: Install, file: Path, path: str
    ) -> None:
        code = {"llama_plugin_a/deep/data.bin": b"12345", "beside_it.py": "x = 1\n"}
        install("a", code=code)
        lock_all(site, file)
        target = site.folder / path
        data = bytearray(target.read_bytes())
        data.append(ord("\n"))
        target.write_bytes(data)
        assert kept_out(site, file) == "its files are not the ones that were locked"
        target.write_bytes(data[:-1])
        assert is_let_in(site, file)

    @pytest.mark.parametrize(
        "path", ["llama_plugin_a/more.py", "llama_plugin_a/more.pyc", "llama_plugin_a/x/y.so"]
    )
    def test_one_more_file_keeps_it_out(
        self, site: Site, install: Install, file: Path, path: str
    ) -> None:
        install("a")
        lock_all(site, file)
        (site.folder / path).parent.mkdir(exist_ok=True)
        (site.folder / path).write_bytes(b"")
        assert kept_out(site, file) == "its files are not the ones that were locked"

    def test_one_file_less_keeps_it_out(self, site: Site, install: Install, file: Path) -> None:
        install("a", code={"llama_plugin_a/more.py": ""})
        lock_all(site, file)
        (site.folder / "llama_plugin_a" / "more.py").unlink()
        assert kept_out(site, file) == "its files are not the ones that were locked"

    def test_files_that_cannot_be_read_keep_it_out(
        self, site: Site, install: Install, file: Path
    ) -> None:
        install("a")
        lock_all(site, file)
        (site.folder / "llama_plugin_a" / "dangling").symlink_to("nowhere")
        assert kept_out(site, file).startswith("its files cannot be read: No such file")

    def test_the_digest_is_the_same_wherever_it_is_installed(
        self, site: Site, install: Install, file: Path, tmp_path: Path
    ) -> None:
        install("a")
        other = Site(tmp_path / "other")
        for path in sorted(site.folder.rglob("*")):
            target = other.folder / path.relative_to(site.folder)
            if path.is_dir():
                target.mkdir()
            else:
                target.write_bytes(path.read_bytes())
        first = lock_all(site, file)
        second = lock_all(other, file)
        assert first == second

    def test_a_broken_plugin_is_not_locked(self, site: Site, install: Install, file: Path) -> None:
        install("a")
        install("a", dist="zz", package="zz")
        site.add("bad", b"name = ")
        assert set(lock_all(site, file)) == {"a"}
        assert set(lock.read(file)) == {"a"}  # and the file can be read again


class TestFile:
    def test_none_is_an_error_that_says_how_to_write_one(
        self, site: Site, install: Install, file: Path
    ) -> None:
        install("a")
        with pytest.raises(ConfigError) as caught, site.plugins(locked=True, lock_file=file):
            pass
        assert str(caught.value) == (
            f"locked mode is on, and there is no lock file {file}. Write it in an environment you "
            "trust: llama plugins lock"
        )

    def test_without_plugins_none_is_needed(self, site: Site, file: Path) -> None:
        with site.plugins(locked=True, lock_file=file, plugins=False) as plugins:
            assert plugins.create("sampler", "greedy")

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "is not a lock file of version 1. llama plugins lock"),
            (b"version = 2", "is not a lock file of version 1"),
            (b"version = 1\nplugins = 3", "is not a lock file of version 1"),
            (b"version = ", "is not valid TOML"),
            (b"\xff", "is not UTF-8"),
            (b"version = 1\nplugins.a = 3", "plugin 'a' must have digest, dist, version"),
            (b"version = 1\n[plugins.a]\ndist = 'a'", "plugin 'a' must have digest, dist, version"),
            (
                b"version = 1\n[plugins.a]\ndist = 'a'\nversion = 1\ndigest = ''",
                "plugin 'a' must have digest, dist, version",
            ),
            (
                b"version = 1\n[plugins.a]\ndist = 'a'\nversion = ''\ndigest = ''\nmore = ''",
                "plugin 'a' must have digest, dist, version",
            ),
        ],
    )
    def test_a_malformed_one_lets_nothing_in(
        self, site: Site, file: Path, data: bytes, message: str
    ) -> None:
        file.write_bytes(data)
        with pytest.raises(ConfigError) as caught, site.plugins(locked=True, lock_file=file):
            pass
        assert str(file) in str(caught.value)
        assert message in str(caught.value)

    def test_an_empty_list_of_plugins_lets_none_in(
        self, site: Site, install: Install, file: Path
    ) -> None:
        install("a")
        file.write_text("version = 1\n")
        assert kept_out(site, file) == "the lock file does not name it"

    def test_it_is_replaced_whole(self, site: Site, install: Install, file: Path) -> None:
        install("a")
        lock_all(site, file)
        first = file.read_text()
        assert first.startswith("# Which plugins may be loaded here.")
        lock_all(site, file)
        assert file.read_text() == first
        assert [one.name for one in file.parent.iterdir() if one.is_file()] == [file.name]
