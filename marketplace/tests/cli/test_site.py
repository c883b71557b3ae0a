"""`llama marketplace site`, as an operator and as a user type it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from operating import Operator, record, wheel

from .test_operating import NAME, Shell, shell

__all__ = ["shell"]  # the fixture


def test_an_operators_folder_becomes_a_site(
    shell: Shell, operator: Operator, tmp_path: Path
) -> None:
    operator.publish(record(wheel(tmp_path / "dist")), record(name="llama-plugin-other"))
    line = ("site", "--index", operator.folder, "--out", "site")
    made = shell(*line, "--url", "https://plugins.example/")
    assert (made["plugins"], made["removed"], made["left_out"]) == (2, 0, {})
    page = (tmp_path / "site" / "plugins" / f"{NAME}.html").read_text("utf-8")
    assert "verified by the index" in page
    assert f"indexes add index https://plugins.example/ --root {operator.root}" in page
    assert shell(*line, "--url", "https://plugins.example/")["written"] == 0
    at = ("--index", operator.folder, "--keys", operator.keys)
    shell("mark", NAME, "1.0.0", "quarantined", "--reason", "it mines", *at)
    shell(*line)
    assert "it mines" in (tmp_path / "site" / "plugins" / f"{NAME}.html").read_text("utf-8")


def test_what_is_trusted_becomes_a_site(
    shell: Shell, operator: Operator, serve: Any, tmp_path: Path
) -> None:
    operator.publish(record(wheel(tmp_path / "dist")), record(version="0.9.0"))
    url = serve(operator.folder)
    shell("indexes", "add", "corp", url, "--root", operator.root)
    assert shell("site", "--out", "one")["plugins"] == 1
    (pins,) = (tmp_path / "home").rglob("publishers.json")
    assert json.loads(pins.read_bytes()) == {NAME: "acme"}
    shell("site", "--from", "corp", "--out", "two")
    shell("site", "--index", operator.folder, "--url", url, "--out", "three")
    pages = [
        (tmp_path / each / "plugins" / f"{NAME}.html").read_text("utf-8")
        for each in ("one", "two", "three")
    ]
    assert pages[0] == pages[1]
    assert pages[0].replace("corp", "index") == pages[2]
    assert "0.9.0" in pages[0]


def test_what_a_publisher_did_not_sign_is_left_out(
    shell: Shell, operator: Operator, serve: Any, tmp_path: Path
) -> None:
    operator.publish(record(), record(name="llama-plugin-other"))
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)
    (file,) = operator.folder.glob(f"targets/records/acme/{NAME}/*.json")
    file.write_bytes(file.read_bytes().replace(b"The transform", b"The miner of "))
    done = shell("site", "--out", "site", code=1)
    assert (done["plugins"], list(done["left_out"])) == (1, [NAME])
    assert "The miner" not in "".join(
        each.read_text("utf-8") for each in (tmp_path / "site").rglob("*.html")
    )


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (["site"], "Missing option '--out'", 2),
        (["site", "--out", "site"], "no index is trusted yet", 1),
        (["site", "--out", "site", "--url", "https://x.example/"], "--url goes with --index", 2),
        (["site", "--out", "site", "--index", "index", "--url", "javascript:x"], "http", 2),
        (["site", "--out", "site", "--index", "empty"], "empty", 1),
        (["site", "--out", "index", "--index", "index"], "is no part of a site", 1),
        (["site", "--out", "dist", "--index", "index"], "Give another --out", 1),
    ],
)
def test_mistakes_are_told_in_one_line(
    shell: Shell, operator: Operator, tmp_path: Path, words: list[str], said: str, code: int
) -> None:
    (tmp_path / "empty").mkdir()
    wheel(tmp_path / "dist")
    assert said in shell.fails(*words, code=code)
    assert not (tmp_path / "site").exists()
