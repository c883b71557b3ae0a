"""One line of a signed catalogue that cannot be: told with its reason, and no other is hidden."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama_marketplace.index.layout import catalogue_path
from operating import Operator, record

from .test_operating import NAME, Shell, shell

__all__ = ["shell"]  # the fixture
BAD = "llama-plugin-min-q"  # near the other's name, so that an installation looks at it too
MEND = "llama marketplace rebuild"


def spoil(operator: Operator, line: dict[str, Any] | bytes) -> None:
    """The index signs for this line, whatever its records say."""
    index = operator.open()
    text = line if isinstance(line, bytes) else {**LINE, **line}
    data = text if isinstance(text, bytes) else json.dumps(text, separators=(",", ":")).encode()
    index.roles.set_targets("catalogue", {catalogue_path(BAD): data + b"\n"})
    index.commit(operator.ring)


LINE = {
    "name": BAD, "plugin": "min-q", "publisher": "acme", "summary": "The transform min-q",
    "provides": ["transform:min-q"],
}  # fmt: skip


WRONG: list[tuple[dict[str, Any] | bytes, str]] = [
    ({"versions": [{"version": "1.x-final!"}]}, "version '1.x-final!' is not one such as"),
    ({"versions": [{"version": ""}]}, "version '' is not one"),
    ({"versions": [{"version": 5}]}, "version = 5"),
    ({"versions": [{"version": "9" * 5000}]}, "is not one such as"),
    ({"versions": [{"version": "1.0", "requires_core": ">=x"}]}, "'>=x' of version 1.0 is not a"),
    ({"versions": [{"version": "1.0", "devices": ["cuda!!"]}]}, "'!!' of version 1.0 is not a"),
    (
        {"versions": [{"version": "1.0", "status": "fine"}]},
        "status 'fine' of version 1.0 is not one",
    ),
    (b'{"name": "llama-plugin-min-q", "summary": "transform"', "is not valid JSON"),
]


def test_what_cannot_be_is_told_and_hides_nothing_else(
    shell: Shell, operator: Operator, serve: Any
) -> None:
    operator.publish(record(), record(name=BAD))
    assert catalogue_path(BAD) != catalogue_path(NAME)
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)
    for number, (line, why) in enumerate(WRONG):
        spoil(operator, line)
        shell("indexes", "refresh")
        out, err = shell.says("search", *(["transform"] if number % 2 else ["--kind", "transform"]))
        assert NAME in out, why
        assert BAD not in out, why
        assert err.count(why) == 1, err
        assert (err.count("'corp'"), err.count(MEND)) == (1, 1), err
    assert shell("search", "transform")["found"] == 1


def test_a_plugin_whose_line_cannot_be_is_refused_and_the_others_are_to_be_had(
    shell: Shell, operator: Operator, serve: Any
) -> None:
    operator.publish(record(), record(name=BAD))
    spoil(operator, WRONG[0][0])
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)
    for command in ("info", "install"):
        _, err = shell.says(command, BAD, code=1)
        assert WRONG[0][1] in err, err
        assert MEND in err
        assert BAD in err
    assert f"{NAME} 1.0.0 by acme" in shell.says("info", NAME)[0]
    out, err = shell.says("install", NAME, "--dry-run")
    assert f"{NAME} 1.0.0 by acme" in out
    assert err.count(WRONG[0][1]) == 1  # its name is near, and could not be looked at
    assert "PLUGIN" in shell.says("list")[0]
    made = shell("site", "--out", "site", code=1)
    assert made["plugins"] == 1
    assert WRONG[0][1] in made["left_out"][BAD]
    assert MEND in made["left_out"][BAD]


@pytest.mark.parametrize("line", [WRONG[0][0], b"nonsense"], ids=["version", "no line at all"])
def test_the_remedy_mends_it(
    shell: Shell, operator: Operator, serve: Any, line: dict[str, Any] | bytes
) -> None:
    operator.publish(record(name=BAD))
    spoil(operator, line)
    shell("indexes", "add", "corp", serve(operator.folder), "--root", operator.root)
    assert BAD not in shell.says("search")[0]
    shell("rebuild", "--index", operator.folder, "--keys", operator.keys)
    shell("indexes", "refresh")
    out, err = shell.says("search")
    assert (BAD in out, err) == (True, "")
