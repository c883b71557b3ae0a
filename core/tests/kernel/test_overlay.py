"""A generation is appended, announced when it cannot be used, and passed on to child processes."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llama_core import overlay
from llama_core.config import Config, load_config
from llama_core.errors import PluginDisabled, StrictError
from llama_core.plugins import Plugins
from llama_core.testing.site import Site

SOURCE = """
from llama_core import hookimpl

@hookimpl
def llama_create_transform(name, options):
    return lambda logits_NV, context: logits_NV
"""
GIVES = {"provides": [{"kind": "transform", "name": "beside", "api": 1}]}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where this environment's generations lie, with none in it."""
    before = list(sys.path)
    monkeypatch.setattr(overlay, "home", lambda: tmp_path / "key")
    monkeypatch.setattr(overlay, "_appended", None)
    overlay._withdrawn.cache_clear()
    monkeypatch.setenv(overlay.VARIABLE, "")
    yield tmp_path / "key"
    sys.path[:] = before
    for name in [each for each in sys.modules if each.startswith("llama_plugin_beside")]:
        del sys.modules[name]


def generation(place: Path, number: int = 1, *, base: str | None = None) -> Path:
    folder = place / "generations" / str(number)
    site = Site(folder / overlay.PACKAGES)
    site.add("beside", GIVES, {"llama_plugin_beside/__init__.py": SOURCE})
    (folder / overlay.BASE).write_text(overlay.fingerprint() if base is None else base)
    (place / overlay.POINTER).write_text(f"{number}\n")
    return folder


def warnings(caplog: pytest.LogCaptureFixture) -> str:
    return " ".join(record.getMessage() for record in caplog.records)


def test_its_plugins_are_there_at_the_end_of_the_path(place: Path) -> None:
    folder = generation(place)
    plugins = Plugins.load(Config())
    assert "beside" in plugins.installed
    assert plugins.create("transform", "beside")
    assert sys.path[-1] == str(folder / overlay.PACKAGES)
    assert os.environ[overlay.VARIABLE] == str(folder)


def test_nothing_installed_changes_nothing(place: Path, caplog: pytest.LogCaptureFixture) -> None:
    before = list(sys.path)
    assert overlay.append() is None
    place.mkdir()
    (place / overlay.POINTER).write_text("0\n")  # everything was rolled back
    assert overlay.append() is None
    assert (sys.path, warnings(caplog)) == (before, "")


def test_without_plugins_it_is_left_out(place: Path) -> None:
    folder = generation(place)
    assert "beside" not in Plugins.load(Config(plugins=False)).installed
    assert str(folder / overlay.PACKAGES) not in sys.path


def test_it_adds_and_never_shadows(place: Path) -> None:
    folder = generation(place)
    (folder / overlay.PACKAGES / "numpy").mkdir()
    (folder / overlay.PACKAGES / "numpy" / "__init__.py").write_text("raise SystemExit(9)")
    (folder / overlay.PACKAGES / "evil.pth").write_text("import sys; sys.exit(9)")
    code = (
        "import sys; from pathlib import Path; from llama_core import overlay;"
        f"overlay.home = lambda: Path({str(place)!r}); assert overlay.append();"
        "import numpy; print(numpy.__file__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(place) not in done.stdout


@pytest.mark.parametrize(
    ("pointer", "why"),
    [
        ("7", "packages is not there"),
        ("../../evil", "names no generation"),
        ("", "names no generation"),
        ("\x00\n1", "names no generation"),
        (b"\xff\xfe", "decode"),
        ("1" * 5000, "names no generation"),
    ],
)
def test_a_pointer_that_leads_nowhere_is_announced_and_not_fatal(
    place: Path, pointer: str | bytes, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    generation(place)
    data = pointer if isinstance(pointer, bytes) else pointer.encode()
    (place / overlay.POINTER).write_bytes(data)
    with caplog.at_level(logging.WARNING):
        assert "beside" not in Plugins.load(Config()).installed
    assert why in warnings(caplog)
    assert "llama marketplace verify" in warnings(caplog)
    with pytest.raises(StrictError, match="without the plugins"):
        Plugins.load(Config(strict=True))


def test_a_changed_base_is_announced_with_the_remedy(
    place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    generation(place, base="what it was")
    with caplog.at_level(logging.WARNING):
        assert "beside" in Plugins.load(Config()).installed
    assert "has changed since plugins were installed" in warnings(caplog)
    assert "llama marketplace verify" in warnings(caplog)


def test_the_fingerprint_follows_what_is_installed_and_not_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site-packages"
    (site / "one-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [*sys.path, str(site)])
    first = overlay.fingerprint()
    (tmp_path / "here" / "two-1.0.dist-info").mkdir(parents=True)
    monkeypatch.setattr(sys, "path", [str(tmp_path / "here"), *sys.path])
    assert overlay.fingerprint() == first
    (site / "one-1.0.dist-info").rename(site / "one-1.1.dist-info")
    assert overlay.fingerprint() != first


def test_a_child_uses_what_its_parent_uses(place: Path) -> None:
    """Though the pointer has moved on meanwhile."""
    generation(place)
    Plugins.load(Config())
    (place / overlay.POINTER).write_text("0\n")
    code = (
        "import json, sys; from pathlib import Path; from llama_core import overlay;"
        f"overlay.home = lambda: Path({str(place)!r});"
        "from llama_core.plugins import Plugins;"
        "print(json.dumps(sorted(Plugins.load().installed)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "beside" in json.loads(done.stdout), done.stderr


def test_another_environment_does_not_inherit(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = generation(tmp_path / "another")
    monkeypatch.setenv(overlay.VARIABLE, str(stranger))
    assert overlay.append() is None


def test_what_its_index_took_back_is_kept_out(place: Path) -> None:
    generation(place)
    list_ = place / overlay.WITHDRAWN
    list_.write_text(json.dumps({"llama-plugin-beside": {"0.1.0": "steals keys", "0.2": "x"}}))
    plugins = Plugins.load(Config())
    with pytest.raises(PluginDisabled, match=r"taken back.*steals keys.*marketplace update"):
        plugins.create("transform", "beside")
    assert plugins["builtin"].reason is None


@pytest.mark.parametrize("text", ["", "[]", '{"llama-plugin-beside": 5}', "\xff", "{" * 5000])
def test_a_list_that_cannot_be_read_is_said(
    place: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    generation(place)
    (place / overlay.WITHDRAWN).write_text(text)
    with caplog.at_level(logging.WARNING):
        assert Plugins.load(Config()).create("transform", "beside")
    assert "have taken back is not known" in warnings(caplog)


def test_what_pip_installed_is_no_index_s_to_take_back(place: Path, tmp_path: Path) -> None:
    generation(place)
    (place / overlay.WITHDRAWN).write_text('{"llama-plugin-other": {"0.1.0": "steals keys"}}')
    site = Site(tmp_path / "site")
    gives = {"provides": [{"kind": "transform", "name": "other", "api": 1}]}
    site.add("other", gives, {"llama_plugin_other/__init__.py": SOURCE})
    with site.on_path():
        assert Plugins.load(Config()).create("transform", "other")


def test_the_variable_is_no_slip(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    environ = {overlay.VARIABLE: "/x"}
    load_config(environ=environ, start=tmp_path, user_file=tmp_path / "none.toml")
    assert warnings(caplog) == ""


def test_an_environment_has_a_place_of_its_own() -> None:
    assert overlay.home("/one") != overlay.home("/other")
    assert overlay.home() == overlay.home(sys.prefix)
