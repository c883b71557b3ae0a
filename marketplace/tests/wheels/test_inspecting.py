"""What is read off an honest wheel, and that honest wheels of every make are taken."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.wheels import WheelRefused, examine, inspect, names

from .hostile import ELF, HOSTILE, PACKAGE
from .making import Made


def test_everything_is_read_and_nothing_imported(tmp_path: Path) -> None:
    made = Made(requires=("llama-core>=0.1,<9", "numpy>=1.26; python_version>'3'"))
    before = set(sys.modules)
    wheel = inspect(made.write(tmp_path))
    assert (wheel.name, wheel.version, wheel.plugin) == ("llama-plugin-rhyme", "1.0", "rhyme")
    assert wheel.package == PACKAGE
    assert wheel.requires_core == "<9,>=0.1"
    assert [each.name for each in wheel.requires] == ["llama-core", "numpy"]
    assert [str(each) for each in wheel.manifest.provides] == ["transform 'rhyme'"]
    assert (wheel.licence, wheel.readme, wheel.native) == ("MIT", "# Rhyme\n", False)
    assert wheel.tags == ("py3-none-any",)
    assert wheel.size == (tmp_path / wheel.filename).stat().st_size
    assert not [name for name in set(sys.modules) - before if "rhyme" in name]


def test_native_code_and_commands_are_taken_where_they_are_declared(tmp_path: Path) -> None:
    tag = "py3-none-manylinux_2_28_x86_64"
    points = f"[llama_core]\nrhyme = {PACKAGE}\n[console_scripts]\nrhyme = {PACKAGE}:main\n"
    made = Made(
        tag=tag,
        manifest_extra='permissions = ["native-code", "scripts"]',
        files={
            f"{PACKAGE}/x.so": ELF,
            "llama_plugin_rhyme-1.0.dist-info/entry_points.txt": points.encode(),
        },
    )
    wheel = inspect(made.write(tmp_path))
    assert wheel.native
    assert wheel.scripts == ("rhyme",)
    assert wheel.manifest.permissions == ("native-code", "scripts")


def test_a_dependency_may_be_what_a_plugin_may_not(tmp_path: Path) -> None:
    """Two modules, a native one, entry points for others: installed beside, and run by nobody."""
    made = Made(dist="numbers-fast", requires=(), files={"fast/x.so": ELF, "faster.py": b""})
    path = made.write(tmp_path)
    assert examine(path).tops == ("fast", "faster", PACKAGE)
    with pytest.raises(WheelRefused):
        inspect(path)


# What not even something that a plugin needs may be.
NOT_EVEN = (
    "a .pth file", "a .pth file as data", "sitecustomize", "sitecustomize as data",
    "usercustomize", "a module of Python's", "the core", "the core's own name",
    "the installer's name", "metadata of another distribution",
    "metadata of another distribution, as data", "a link", "up and out", "a bomb",
    "a changed file", "a requirement by address",
)  # fmt: skip


@pytest.mark.parametrize("what", NOT_EVEN)
def test_a_dependency_is_held_to_the_rules_for_all(tmp_path: Path, what: str) -> None:
    made, reason = HOSTILE[what]
    with pytest.raises(WheelRefused) as caught:
        examine(made.write(tmp_path))
    assert caught.value.reason == reason


def test_an_archive_that_was_streamed_is_read(tmp_path: Path) -> None:
    """Sizes after the bytes, as tools write that do not know them before."""
    path = Made().write(tmp_path / "plain")
    streamed = tmp_path / path.name
    with (
        zipfile.ZipFile(path) as old,
        streamed.open("wb") as file,
        zipfile.ZipFile(_Pipe(file), "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    assert inspect(streamed).version == "1.0"


class _Pipe:
    """A file that cannot go back."""

    def __init__(self, file: object) -> None:
        self.write, self.flush = file.write, file.flush  # type: ignore[attr-defined]


@given(at=st.integers(0, 4000), byte=st.binary(max_size=3), cut=st.integers(0, 200))
@settings(derandomize=True, max_examples=300, deadline=None)
def test_a_damaged_wheel_is_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: bytes, cut: int
) -> None:
    """Any change of bytes is noticed, or changes nothing that is installed."""
    folder = tmp_path_factory.getbasetemp() / "damaged"
    path = Made().write(folder)
    whole = inspect(path)
    data = path.read_bytes()
    place = at % len(data)
    path.write_bytes(data[:place] + byte + data[place + (1 if cut else len(byte)) :])
    said, files = "", None
    try:
        files = inspect(path).files
    except WheelRefused as error:
        said = str(error)
    assert said.isprintable()
    assert said or files == whole.files


@given(st.lists(st.text(min_size=1, max_size=12), max_size=6).map("/".join))
@settings(derandomize=True, max_examples=500, deadline=None)
def test_a_name_without_fault_stays_in_its_folder(name: str) -> None:
    root = Path("/site").absolute()
    if name and names.fault(name) is None:
        assert (root / name).resolve().is_relative_to(root)
        assert (root / name).resolve() != root
