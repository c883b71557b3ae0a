"""A user's day at the command line: search, info, install, use, update, verify, rollback, lock,
sync, uninstall, from a real server, in an environment of plugins that pip installed."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.index.record import Change
from llama_marketplace.publish.recording import record_of
from llama_marketplace.wheels import inspect

from llama_core.cli import app

from ..author.rendering import commanded
from ..wheels.making import Made

NAME = "llama-plugin-rhyme"


class User:
    """Somebody with a home of their own, who runs commands."""

    def __init__(self, home: Path) -> None:
        self.home = home
        home.mkdir(parents=True)
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("LLAMA_", "XDG_"))}
        self.env = {**kept, "HOME": str(home)}

    def llama(self, *arguments: str, code: int = 0) -> str:
        command = [sys.executable, "-m", "llama_core", *arguments]
        done = subprocess.run(
            command, cwd=self.home, env=self.env, text=True, capture_output=True, timeout=300
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def json(self, *arguments: str, code: int = 0) -> Any:
        return _object(self.llama("marketplace", *arguments, "--json", code=code))

    def looks(self, *arguments: str) -> str:
        """The same without a process of its own: for what looks on, before anything is installed
        that a process would have on its path from then on."""
        code, out, err = commanded("marketplace", *arguments, at=self.home, env=self.env)
        assert code == 0, err
        return out + err


def _object(out: str) -> Any:
    return json.loads(out[out.index("{") : out.rindex("}") + 1])


@pytest.fixture
def corp(operator: Any, tmp_path: Path) -> Any:
    """An index with two versions that fit and one that does not, published by acme."""

    def publish(*made: Made) -> None:
        for one in made:
            wheel = inspect(one.write(tmp_path / "dist"))
            record = record_of([wheel], publisher="acme", now=datetime.now(UTC), needs={})
            operator.publish(record, wheels=(wheel.path,))

    operator.put = publish
    publish(Made(), Made(version="2.0", requires=("llama-core>=99",)))
    return operator


@pytest.fixture
def user(corp: Any, serve: Any, tmp_path: Path) -> User:
    someone = User(tmp_path / "someone")
    url = serve(corp.folder)
    someone.looks("indexes", "add", "corp", url, "--root", corp.root)
    someone.env["CORP"] = url
    return someone


def test_from_search_to_uninstall(user: User, corp: Any, tmp_path: Path) -> None:
    found = _object(user.looks("search", "rhyme", "--json"))["plugins"]
    assert [(each["name"], each["version"]) for each in found] == [(NAME, "1.0")]
    assert "needs llama-core >=99" in found[0]["hidden"]["2.0"]
    info = user.looks("info", "rhyme")
    assert "provides transform 'rhyme'" in info
    assert "newer, and not taken: 2.0" in info
    assert "# Rhyme" in info

    planned = _object(user.looks("install", "rhyme", "--dry-run", "--json"))
    assert (planned["done"], planned["plugins"][0]["version"]) == (False, "1.0")
    assert "rhyme" not in user.llama("plugins", "list")
    said = user.llama("marketplace", "install", "rhyme")
    assert "installed as generation 1" in said
    assert "not 2.0: needs llama-core >=99" in said
    assert "rhyme        1.0      ready" in user.llama("plugins", "list")
    assert "nothing to do" in user.llama("marketplace", "install", NAME)

    corp.put(Made(version="1.1"))
    assert user.json("update")["plugins"][0]["before"] == "1.0"
    listed = {each["plugin"]: each for each in user.json("list")["plugins"]}
    assert (listed["rhyme"]["version"], listed["rhyme"]["managed"]) == ("1.1", True)
    assert listed["marketplace"]["managed"] is False
    assert user.json("rollback")["plugins"] == {NAME: "1.0"}
    assert user.json("verify")["problems"] == []
    user.llama("marketplace", "lock")

    other = User(tmp_path / "other")
    root = corp.root
    other.looks("indexes", "add", "corp", user.env["CORP"], "--root", root)
    (other.home / "marketplace.lock").write_bytes((user.home / "marketplace.lock").read_bytes())
    assert other.json("sync")["plugins"][0]["version"] == "1.0"  # though 1.1 is there and fits
    assert "already" in other.llama("marketplace", "sync")

    user.llama("marketplace", "uninstall", "rhyme")
    assert "rhyme" not in user.llama("plugins", "list")


def test_what_was_fetched_once_is_there_without_a_network(
    user: User, corp: Any, serve: Any
) -> None:
    user.llama("marketplace", "install", "rhyme")
    user.llama("marketplace", "uninstall", "rhyme")
    serve.stop()
    assert user.json("search", "rhyme")["plugins"][0]["version"] == "1.0"
    user.llama("marketplace", "install", "rhyme")
    assert user.json("verify")["problems"] == []
    user.llama("marketplace", "rollback")
    assert "rhyme" not in user.llama("plugins", "list")


def test_what_is_quarantined_later_is_found_and_left(user: User, corp: Any) -> None:
    user.llama("marketplace", "install", "rhyme")
    corp.put(Made(version="1.1"))
    index = corp.open()
    change = Change(status="quarantined", date=datetime.now(UTC).date(), reason="steals keys")
    index.decide(NAME, "1.0", change)
    index.commit(corp.ring)
    user.llama("marketplace", "indexes", "refresh")
    said = user.json("verify", code=1)["problems"]
    assert "quarantined since" in said[0]
    assert "steals keys" in said[0]
    assert "taken back by the index it is from: steals keys" in user.llama("plugins", "list")
    user.llama("marketplace", "update")
    assert user.json("verify")["plugins"] == {NAME: "1.1"}


# What somebody types, what it is told, and the exit code.
MISTAKES: list[tuple[list[str], str, int]] = [
    (["install", "rhime"], "rhyme", 1),
    (["install", "rhyme==9"], "no version of llama-plugin-rhyme ==9 can be installed here", 1),
    (["install", "rhyme @ https://example.com/x.whl"], "a name and a range are all", 2),
    (["install", "../rhyme"], "is no plugin's name", 2),
    (["install", "rhyme", "--wheel", "x.whl"], "has no x.whl", 1),
    (["install"], "Missing argument", 2),
    (["uninstall", "rhyme"], "there is no rhyme installed", 1),
    (["uninstall", "llama-core"], "was not installed from here", 1),
    (["rollback"], "nothing is installed", 1),
    (["rollback", "--to", "7"], "there is no generation 7; there are: 0", 1),
    (["lock"], "nothing to lock", 1),
    (["search", "--kind", "nonsense"], "is not one of", 2),
]


def test_mistakes_are_told_in_one_line(
    user: User, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logging.getLogger("llama_core")
    for name, value in (("handlers", []), ("propagate", False)):
        monkeypatch.setattr(log, name, value)
    monkeypatch.setenv("HOME", str(user.home))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for arguments, word, code in MISTAKES:
        assert app.run(["marketplace", *arguments]) == code, arguments
        said = capfd.readouterr()
        assert word in said.err, arguments
        assert len(said.err.splitlines()) == 1, arguments
        assert said.out == "", arguments


def test_a_user_without_an_index_is_told_how_to_get_one(tmp_path: Path) -> None:
    nobody = User(tmp_path / "nobody")
    assert "llama marketplace indexes add" in nobody.llama("marketplace", "search", code=1)
    assert "PLUGIN" in nobody.llama("marketplace", "list")
    assert nobody.json("verify")["problems"] == []


ASKED = """
import sys
from llama_core.cli import app
code = app.run(sys.argv[1:])
heavy = {"llama_core.plugins", "packaging", "pydantic", "tuf", "urllib3"}
print(sorted(heavy & set(sys.modules)))
sys.exit(code)
"""


def test_a_search_that_needs_nothing_new_imports_next_to_nothing(user: User) -> None:
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", ASKED, "marketplace", "search", "rhyme"],
            cwd=user.home, env=user.env, text=True, capture_output=True, check=True,
        )  # fmt: skip
    assert f"{NAME}  1.0 " in done.stdout
    assert "2.0 is hidden: needs llama-core >=99" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"
