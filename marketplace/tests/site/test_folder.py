"""The folder of a site: nobody else's file is touched, and no file is half there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from llama_marketplace.errors import IndexFailed, Untrusted
from llama_marketplace.index.record import Record
from llama_marketplace.site import building, rendering
from llama_marketplace.site.entries import Shelf
from operating import record

from llama_core import durable
from llama_core.errors import LlamaError

from .making import HOME, shelf

ONE, TWO = record(), record(name="llama-plugin-two")


def build(out: Path, *records: Record) -> building.Built:
    return building.build(out, [shelf(*records)], lambda: None)


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in folder.rglob("*")
        if each.is_file()
    }


def test_the_same_index_makes_the_same_bytes_and_writes_nothing_twice(tmp_path: Path) -> None:
    first = build(tmp_path / "a", ONE, TWO)
    build(tmp_path / "b", TWO, ONE)
    made = files_of(tmp_path / "a")
    assert made == files_of(tmp_path / "b")
    assert (first.num_plugins, first.num_written) == (2, len(made))
    again = build(tmp_path / "a", ONE, TWO)
    assert (again.num_written, again.num_removed) == (0, 0)


def test_pages_of_what_is_gone_go_too(tmp_path: Path) -> None:
    build(tmp_path / "a", ONE, TWO)
    assert build(tmp_path / "a", TWO).num_removed == 1
    build(tmp_path / "b", TWO)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


@pytest.mark.parametrize(
    "name", ["notes.txt", "plugins/mine.html", "plugins/x.txt", "index.html", ".htaccess",
             "plugins/Llama.html", "more/x.html", ".index.html.part"],
)  # fmt: skip
def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, name: str) -> None:
    out = tmp_path / "site"
    build(out, ONE)
    before = files_of(out)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).write_bytes(b"<!DOCTYPE html>\n<p>mine\n")
    with pytest.raises(LlamaError, match="is no part of a site") as error:
        build(out, TWO)
    assert name.split("/x")[0].split("/m")[0] in str(error.value)
    assert (out / name).read_bytes() == b"<!DOCTYPE html>\n<p>mine\n"
    assert {key: data for key, data in files_of(out).items() if key != name} == {
        key: data for key, data in before.items() if key != name
    }


@pytest.mark.skipif(os.name == "nt", reason="links need a right of their own on Windows")
@pytest.mark.parametrize("name", ["plugins", "site.css", "plugins/llama-plugin-min-p.html"])
def test_links_are_not_written_through(tmp_path: Path, name: str) -> None:
    out, away = tmp_path / "site", tmp_path / "away"
    build(out, ONE)
    (out / name).rename(away)
    (out / name).symlink_to(away)
    with pytest.raises(LlamaError, match="is no part of a site"):
        build(out, TWO)


def test_a_killed_run_is_made_good_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every file that it writes in turn."""
    build(tmp_path / "right", TWO)
    right = files_of(tmp_path / "right")
    for step in range(1, 40):
        out = tmp_path / f"killed-{step}"
        build(out, ONE)
        left = step

        def killed(path: Path, content: object, **more: object) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                path.with_name(f".{path.name}.{'0' * 16}.part").write_bytes(b"half")
                raise KeyboardInterrupt
            durable.replace_file(path, content, **more)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr("llama_marketplace.index.layout.replace_file", killed)
            try:
                build(out, TWO)
            except KeyboardInterrupt:
                pass
            else:
                assert step > 4
                break
        whole = {key for key in files_of(out) if not key.rpartition("/")[2].startswith(".")}
        assert {"index.html", "site.css", "search.js", "catalogue.js"} <= whole
        build(out, TWO)
        assert files_of(out) == right
    else:
        raise AssertionError("it never came to its end")


def failing(error: LlamaError, *names: str) -> Shelf:
    good = shelf(ONE, TWO)

    def read(name: str) -> Sequence[Record]:
        if name in names:
            raise error
        return good.read(name)

    return Shelf(HOME, good.names, read)


def test_a_plugin_that_cannot_be_believed_is_left_out_and_named(tmp_path: Path) -> None:
    build(tmp_path, ONE, TWO)
    bad = failing(Untrusted("its signature has run out"), TWO.name)
    built = building.build(tmp_path, [bad], lambda: None)
    assert built.left_out == ((TWO.name, "its signature has run out"),)
    assert (built.num_plugins, built.num_removed) == (1, 1)
    assert not (tmp_path / "plugins" / f"{TWO.name}.html").exists()


@pytest.mark.parametrize(
    "bad",
    [
        failing(IndexFailed("the wire is cut"), TWO.name),
        failing(Untrusted("all has run out"), ONE.name, TWO.name),
        Shelf(HOME, {ONE.name: True}, lambda name: ()),
    ],
    ids=["no network", "nothing believed", "no record"],
)
def test_what_cannot_be_read_takes_no_page_away(tmp_path: Path, bad: Shelf) -> None:
    build(tmp_path, ONE, TWO)
    before = files_of(tmp_path)
    with pytest.raises(LlamaError):
        building.build(tmp_path, [bad], lambda: None)
    assert files_of(tmp_path) == before


def test_a_name_is_the_first_indexs_that_has_it(tmp_path: Path) -> None:
    theirs = record(version="9.0.0", publisher="mallory")
    built = building.build(tmp_path, [shelf(ONE), shelf(theirs, TWO)], lambda: None)
    assert built.num_plugins == 2
    page = (tmp_path / "plugins" / f"{ONE.name}.html").read_text("utf-8")
    assert "9.0.0" not in page
    assert "mallory" not in page


def test_every_file_that_comes_along_is_in_the_site(tmp_path: Path) -> None:
    build(tmp_path, ONE)
    for name in rendering.ASSETS:
        assert (tmp_path / name).read_bytes() == rendering.asset(name)
