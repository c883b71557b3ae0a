"""Records are read strictly: what is wrong is refused and named, what is new is not fatal."""

from __future__ import annotations

import json
from typing import Any

import pytest
from llama_marketplace.errors import RecordRefused
from llama_marketplace.index import record as records

FILE = "llama_plugin_min_p-1.2.0-py3-none-any.whl"


def table(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "name": "llama-plugin-min-p",
        "version": "1.2.0",
        "plugin": "min-p",
        "package": "llama_plugin_min_p",
        "publisher": "acme",
        "summary": "Drops unlikely tokens",
        "requires_core": ">=0.1",
        "provides": [{"kind": "transform", "name": "min-p", "api": 1}],
        "files": [{"filename": FILE, "sha256": "a" * 64, "size": 5, "tags": ["py3-none-any"]}],
        "published": "2026-01-02T03:04:05Z",
        "history": [{"status": "active", "date": "2026-01-02"}],
    } | changes


def read(**changes: Any) -> records.Record:
    return records.read(json.dumps(table(**changes)).encode(), source="it")


def test_what_is_written_reads_back_and_is_written_in_one_way() -> None:
    one = read()
    assert records.read(records.write(one), source="it") == one
    shuffled = dict(reversed(table().items()))
    again = records.read(json.dumps(shuffled, indent=3).encode(), source="it")
    assert records.write(again) == records.write(one)
    assert one.files[0].path == f"wheels/{'a' * 64}/{FILE}"
    assert one.path == "records/acme/llama-plugin-min-p/1.2.0.json"


def test_a_kind_from_the_future_is_no_fault() -> None:
    provided = [{"kind": "telepathy", "name": "x", "api": 3, "needs": {"os": ["plan9"]}}]
    assert read(provides=provided).provides[0].kind == "telepathy"


REFUSED = [
    ({"name": "Llama_Plugin"}, "name"),
    ({"name": "llama-plugin-other"}, "is not llama-plugin-other 1.2.0"),
    ({"version": "1.2"}, "normal form|is not"),
    ({"version": "one"}, "not a version"),
    ({"publisher": "../up"}, "publisher"),
    ({"summary": "red \x1b[31m"}, "summary"),
    ({"summary": "turned \u202e"}, "summary"),
    ({"readme": "x" * (65 << 10)}, "longer than 64 KiB"),
    ({"requires_core": "newest"}, "not a version range"),
    ({"requires": ["numpy @ https://evil.example/x.whl"]}, "escape the index"),
    ({"requires": ["?"]}, "not a requirement"),
    ({"homepage": "javascript:alert(1)"}, "homepage"),
    ({"files": []}, "files"),
    ({"files": [table()["files"][0] | {"sha256": "A" * 64}]}, "sha256"),
    ({"files": [table()["files"][0] | {"size": "5"}]}, "size"),
    ({"files": [table()["files"][0] | {"size": 0}]}, "size"),
    ({"files": [table()["files"][0] | {"size": True}]}, "size"),
    ({"files": [table()["files"][0] | {"url": "file:///etc/passwd"}]}, "url"),
    ({"files": [table()["files"][0] | {"filename": "../x.whl"}]}, "filename"),
    ({"files": [table()["files"][0] | {"filename": "x.whl"}]}, "not the name of a wheel"),
    ({"files": [table()["files"][0] | {"tags": ["py3-none-linux_x86_64"]}]}, "tags"),
    ({"files": table()["files"] * 2}, "two files have one name"),
    ({"published": "2026-01-02T03:04:05"}, "time zone"),
    ({"history": []}, "history"),
    ({"history": [{"status": "yanked", "date": "2026-01-02"}]}, "needs a reason"),
    ({"history": [{"status": "gone", "date": "2026-01-02"}]}, "history"),
    ({"surprise": 1}, "surprise"),
]


@pytest.mark.parametrize(("changes", "complaint"), REFUSED, ids=lambda each: str(each)[:40])
def test_what_is_wrong_is_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecordRefused, match=complaint):
        read(**changes)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"[]", "not a JSON object"),
        (b'{"schema":1,"schema":1}', "twice"),
        (b'{"schema":NaN}', "NaN"),
        (b"\xff\xfe", "not valid JSON"),
        (b'{"a":' * 30_000, "not valid JSON"),
        (b"{" + b" " * (300 << 10) + b"}", "are the most"),
        (b'{"schema":' + b"9" * 5000 + b"}", "not valid JSON"),
    ],
    ids=range(7),
)
def test_hostile_bytes_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(RecordRefused, match=complaint):
        records.read(data, source="it")


def test_a_newer_schema_names_the_remedy() -> None:
    with pytest.raises(RecordRefused, match="pip install --upgrade llama-marketplace"):
        read(schema=2)
