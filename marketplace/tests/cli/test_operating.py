"""The commands of those who host an index and publish there, as they are typed."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.sources import configured
from operating import Operator, record, wheel

from llama_core.cli.app import run

NAME = "llama-plugin-min-p"


class Shell:
    """Runs `llama marketplace …` here, in the name of a user with folders of its own."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: object, code: int = 0) -> dict[str, Any]:
        got = run(["marketplace", *map(str, words), "--json"])
        out, err = self._capsys.readouterr()
        assert got == code, err
        facts: dict[str, Any] = json.loads(out)
        return facts

    def says(self, *words: object, code: int = 0) -> tuple[str, str]:
        """As a person sees it, in one line: what it prints, and what it says beside that."""
        got = run(["marketplace", *map(str, words)])
        out, err = self._capsys.readouterr()
        assert got == code, err
        return " ".join(out.split()), " ".join(err.split())

    def fails(self, *words: object, code: int = 1) -> str:
        return self.says(*words, code=code)[1]


@pytest.fixture
def shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Shell]:
    for name in ("CONFIG", "DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(tmp_path / "home" / name.lower()))
    monkeypatch.chdir(tmp_path)
    log = logging.getLogger("llama_core")
    before = log.handlers, log.propagate
    yield Shell(capsys)
    log.handlers, log.propagate = before


def test_from_nothing_to_a_plugin_that_is_offered(shell: Shell, serve: Any, tmp_path: Path) -> None:
    made = shell("init", "index", "--keys", "keys")
    mine = shell("keys", "create", "acme.pem")
    shell(
        "publishers", "add", "acme", "--key", "acme.pub", "--verified",
        "--index", "index", "--keys", "keys",
    )  # fmt: skip
    assert mine["public"] == "acme.pub"
    (row,) = shell("publishers", "list", "--index", "index")["publishers"]
    assert (row["publisher"], row["verified"]) == ("acme", True)
    both = ("--index", "index", "--keys", "keys", "--keys", "acme.pem")
    file = wheel(tmp_path / "dist")
    done = shell("publish", file, "--publisher", "acme", "--with-wheels", *both)
    assert done["published"][0]["conformance"] == ["transform min-p"]
    url = serve(tmp_path / "index")
    shell("indexes", "add", "corp", url, "--root", made["root"])
    (listed,) = shell("indexes", "list")["indexes"]
    assert (listed["name"], listed["url"], listed["root"]) == ("corp", url, made["root"])
    shell("mark", NAME, "1.0.0", "yanked", "--reason", "wrong results", *both)
    (state,) = shell("indexes", "refresh")["indexes"]
    assert state["state"] == "new"
    found = shell("search", "min-p", "--all")["plugins"]
    assert [each["name"] for each in found] == [NAME]
    shell("indexes", "remove", "corp")
    assert shell("indexes", "list")["indexes"] == []


def test_an_index_of_another_root_is_not_trusted(
    shell: Shell, operator: Operator, serve: Any, tmp_path: Path
) -> None:
    url = serve(operator.folder)
    said = shell.fails("indexes", "add", "corp", url, "--root", "0" * 64)
    assert "is not the root that is pinned" in said
    assert shell("indexes", "list")["indexes"] == []
    assert "letters, digits and hyphens" in shell.fails(
        "indexes", "add", "../corp", url, "--root", operator.root
    )
    assert "must be the SHA-256" in shell.fails("indexes", "add", "corp", url, "--root", "abc")


def test_what_else_stands_in_the_users_file_stays(
    shell: Shell, operator: Operator, serve: Any, tmp_path: Path
) -> None:
    file = tmp_path / "home" / "config" / "llama-core" / "llama.toml"
    file.parent.mkdir(parents=True)
    file.write_text('# mine\n[core]\nbackend = "reference"  # for now\n')
    url = serve(operator.folder)
    shell("indexes", "add", "one", url, "--root", operator.root)
    shell(
        "indexes", "add", "two", url, "--root", operator.root, "--first",
        "--namespace", "llama-plugin-corp-*",
    )  # fmt: skip
    names = [each["name"] for each in shell("indexes", "list")["indexes"]]
    assert names == ["two", "one"]
    assert file.read_text().startswith('# mine\n[core]\nbackend = "reference"  # for now\n')
    assert "already" in shell.fails("indexes", "add", "one", url, "--root", operator.root)
    shell("indexes", "remove", "two")
    assert "did you mean 'one'" in shell.fails("indexes", "remove", "onee")


def test_a_projects_file_cannot_say_whom_to_trust(
    shell: Shell, operator: Operator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "llama.toml").write_text(
        f'[[marketplace.indexes]]\nname = "evil"\nurl = "http://127.0.0.1:9/"\n'
        f'root = "{operator.root}"\n'
    )

    assert configured() == []
    assert "only" in caplog.text
    assert "says whom to trust" in caplog.text


def test_keys_are_not_put_where_everybody_reads(shell: Shell, tmp_path: Path) -> None:
    said = shell.fails("init", "index", "--keys", "index/keys")
    assert "inside of the index" in said
    assert not (tmp_path / "index").exists()


def test_two_of_three_root_keys(shell: Shell, tmp_path: Path) -> None:
    shell("init", "index", "--keys", "keys", "--root-keys", "3", "--threshold", "2")
    shell("keys", "create", "new.pem")
    more = ("--index", "index", "--keys", "keys", "--keys", "new.pem")
    (tmp_path / "keys" / "root.pem").unlink()
    assert "root" in shell("keys", "rotate", "snapshot", "--new", "new.pub", *more)["signed"]
    (tmp_path / "keys" / "root-2.pem").unlink()
    said = shell.fails("keys", "rotate", "timestamp", "--new", "new.pub", *more)
    assert "'root' needs 2 of its keys" in said
    assert "can never sign" in shell.fails(
        "init", "other", "--keys", "others", "--root-keys", "2", "--threshold", "3"
    )


def test_renewing_says_what_it_cannot_renew(shell: Shell, operator: Operator) -> None:
    operator.publish(record())
    at = ("--index", operator.folder, "--keys")
    assert shell("renew", *at, operator.keys)["signed"] == ["timestamp"]
    assert "snapshot" in shell("renew", "--days", "40", *at, operator.keys)["signed"]
    index = operator.open(datetime.now(UTC) - timedelta(days=360))
    index.roles.touch("names")
    index.commit(operator.ring)
    (operator.keys / "names.pem").rename(operator.keys.parent / "offline.pem")
    left = shell("renew", *at, operator.keys, code=1)
    assert list(left["runs_out"]) == ["names"]
    assert "timestamp" in left["signed"]
    done = shell("renew", *at, operator.keys, "--keys", operator.keys.parent / "offline.pem")
    assert done["runs_out"] == {}


def test_marks_are_their_owners_and_need_a_reason(shell: Shell, operator: Operator) -> None:
    operator.publish(record())
    at = ("--index", operator.folder, "--keys", operator.keys)
    assert "say why" in shell.fails("mark", NAME, "1.0.0", "yanked", *at, code=2)
    assert "no llama-plugin-none" in shell.fails(
        "mark", "llama-plugin-none", "1.0.0", "yanked", "--reason", "x", *at
    )
    assert "no llama-plugin-min-p 9.9.9" in shell.fails(
        "mark", NAME, "9.9.9", "quarantined", "--reason", "x", *at
    )
    shell("mark", NAME, "1.0.0", "quarantined", "--reason", "it mines", *at)
    said = shell.fails("mark", NAME, "1.0.0", "active", *at)
    assert "stays quarantined by its index: it mines" in said
    shell("mark", NAME, "1.0.0", "active", "--as-index", *at)
    (found,) = operator.open().records(NAME)
    assert found.status.status == "active"


def test_a_wheel_that_breaks_a_rule_is_not_published(
    shell: Shell, operator: Operator, tmp_path: Path
) -> None:
    file = wheel(tmp_path / "dist")
    file.write_bytes(file.read_bytes().replace(b"# A transform", b"# A miner of "))
    at = ("--publisher", "acme", "--index", operator.folder, "--keys", operator.keys)
    assert "is refused" in shell.fails("publish", file, "--with-wheels", *at)
    assert operator.open().records(NAME) == []
    assert "either --with-wheels or --wheels-at" in shell.fails("publish", file, *at, code=2)
