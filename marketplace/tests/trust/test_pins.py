"""Whose a name was, as long as anybody here remembers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from llama_marketplace.errors import Untrusted
from llama_marketplace.trust.pins import Pins


def test_the_first_publisher_stays_the_one(tmp_path: Path) -> None:
    file = tmp_path / "state" / "publishers.json"
    assert Pins(file).whose("x", "acme") == "acme"
    assert Pins(file).whose("x", "mallory") == "acme"


def test_many_names_are_read_once_and_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "publishers.json"
    Pins(file).whose("0", "acme")
    touched: list[str] = []
    read = Path.read_bytes

    def reading(self: Path) -> bytes:
        touched.append("read")
        return read(self)

    monkeypatch.setattr(Path, "read_bytes", reading)
    pins = Pins(file)
    with pins.together():
        assert [pins.whose(str(number), "acme") for number in range(100)] == ["acme"] * 100
        assert touched == ["read"]
        assert json.loads(read(file)) == {"0": "acme"}
    assert len(json.loads(read(file))) == 100
    num_touched = len(touched)
    assert num_touched == 2  # and what is replaced is read before it
    assert [pins.whose(str(number), "mallory") for number in range(100)] == ["acme"] * 100
    assert len(touched) == num_touched


def test_what_another_process_has_seen_meanwhile_counts(tmp_path: Path) -> None:
    file = tmp_path / "publishers.json"
    mine, theirs = Pins(file), Pins(file)
    with mine.together():
        assert mine.whose("x", "mallory") == "mallory"
        assert theirs.whose("x", "acme") == "acme"
        assert mine.whose("x", "mallory") == "acme"
        mine.whose("y", "acme")
        theirs.whose("z", "acme")
    assert json.loads(file.read_bytes()) == dict.fromkeys("xyz", "acme")


def test_what_was_seen_is_kept_though_the_rest_fails(tmp_path: Path) -> None:
    file = tmp_path / "publishers.json"
    pins = Pins(file)

    def failing() -> None:
        with pins.together():
            pins.whose("x", "acme")
            raise KeyError

    with pytest.raises(KeyError):
        failing()
    assert Pins(file).whose("x", "mallory") == "acme"


@pytest.mark.parametrize("damage", [b"", b"[]", b"{", b"\xff"])
def test_a_damaged_file_is_not_taken_for_none(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "publishers.json"
    file.write_bytes(damage)
    with pytest.raises(Untrusted, match=r"cannot be read.*Remove it"):
        Pins(file).whose("x", "mallory")
    assert file.read_bytes() == damage
