"""Publishing into an index on another machine, as the publisher and the operator type it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from operating import Operator, wheel

from .test_operating import NAME, Shell, shell

__all__ = ["shell"]  # the fixture


def test_a_publisher_and_an_operator_hand_over_a_folder(
    shell: Shell, operator: Operator, serve: Any, tmp_path: Path
) -> None:
    key = (operator.keys / "acme.pem").rename(tmp_path / "acme.pem")
    at = ("--index", operator.folder, "--keys", operator.keys)
    mine = ("--publisher", "acme", "--keys", key)
    file = wheel(tmp_path / "dist")
    publish = ("publish", file, "--with-wheels", *mine)
    assert "no index is trusted yet" in shell.fails(*publish, "--offer", "one")
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)

    done = shell(*publish, "--offer", "one")
    assert done["published"][0]["conformance"] == ["transform min-p"]
    assert (done["signed"], done["offer"]) == (["acme"], "one")
    said, _ = shell.says("accept", "one", *at)
    assert said == f"{NAME} 1.0.0 of acme is active in {operator.folder}"
    assert "something else was taken in since" in shell.fails("accept", "one", *at)

    because = ("--reason", "wrong results", "--from", "corp", *mine)
    out, _ = shell.says("mark", NAME, "1.0.0", "yanked", "--offer", "two", *because)
    assert out == (
        f"{NAME} 1.0.0 is yanked send two to the operator of 'corp': llama marketplace accept two …"
    )
    (taken,) = shell("accept", "two", *at)["accepted"]
    assert taken == {"name": NAME, "version": "1.0.0", "status": "yanked"}
    out, _ = shell.says("renew", "acme", "--offer", "three", "--keys", key)
    assert out.startswith("signed: acme send three")
    said, _ = shell.says("accept", "three", *at)
    assert said == "acme has signed again what it had signed before"
    shell("indexes", "refresh")
    assert "1.0.0 is hidden: yanked" in shell.says("search", "min-p", "--all")[0]


def test_what_an_offer_needs_is_said(shell: Shell, operator: Operator, tmp_path: Path) -> None:
    file = wheel(tmp_path / "dist")
    publish = ("publish", file, "--with-wheels", "--publisher", "acme", "--keys", operator.keys)
    at = ("--index", operator.folder)
    assert "either --index FOLDER or --offer" in shell.fails(*publish, code=2)
    assert "either --index FOLDER or" in shell.fails(*publish, *at, "--offer", "x", code=2)
    assert "--from goes with --offer" in shell.fails(*publish, *at, "--from", "corp", code=2)
    mark = ("mark", NAME, "1.0.0", "quarantined", "--reason", "x", "--keys", operator.keys)
    assert "go together" in shell.fails(*mark, "--offer", "x", code=2)
    alone = shell.fails(*mark, "--offer", "x", "--publisher", "acme", code=2)
    assert "that is for the operator" in alone
    assert "is of one publisher" in shell.fails("renew", "--offer", "x", code=2)
    assert not (tmp_path / "x").exists()
