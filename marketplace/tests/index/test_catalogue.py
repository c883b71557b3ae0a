"""Lines of the catalogue: what search sees of a plugin, and what it refuses to see."""

from __future__ import annotations

import json
from io import BytesIO
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.errors import RecordRefused
from llama_marketplace.index.catalogue import (
    STATUSES,
    Offered,
    Summary,
    matching,
    read_line,
    summarize,
    write_line,
)
from llama_marketplace.index.record import Change, Status
from operating import record

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


def found(data: bytes, *words: str) -> list[Summary]:
    return [read_line(line) for _, line in matching(BytesIO(data), words)]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(st.tuples(TEXT, TEXT, st.booleans()), max_size=5), TEXT)
def test_every_line_reads_back_and_is_found_by_its_own_words(
    rows: list[tuple[str, str, bool]], word: str
) -> None:
    summaries = [
        Summary(f"llama-plugin-{number}", str(number), "acme", text, licence or None,
                verified=verified, versions=(Offered("1.0", reason=licence or None),))
        for number, (text, licence, verified) in enumerate(rows)
    ]  # fmt: skip
    data = b"".join(write_line(each) for each in summaries)
    assert found(data) == summaries
    # The shortcut over bytes finds neither more nor less than the whole way would.
    assert found(data, word) == [each for each in summaries if _says(each, word)]


def _says(one: Summary, word: str) -> bool:
    text = " ".join((one.name, one.summary, one.publisher, *one.provides)).casefold()
    return all(part.casefold() in text for part in word.split())


@pytest.mark.parametrize(
    "line", [b"[]", b"{", b'{"name": 1, "summary": "", "publisher": ""}', b'{"name": "x"}', b"\xff"]
)
def test_a_line_that_says_nothing_is_refused_by_a_search(line: bytes) -> None:
    with pytest.raises(RecordRefused):
        found(line)


def test_the_newest_active_version_speaks_for_a_plugin() -> None:
    gone = record(version="3.0.0", summary="Broken").model_copy(
        update={"history": (Change.model_validate(
            {"status": "yanked", "date": "2026-05-01", "reason": "wrong"}),)}
    )  # fmt: skip
    found = summarize([record(version="1.9.0"), gone, record(version="1.10.0")], verified=True)
    assert [each.version for each in found.versions] == ["3.0.0", "1.10.0", "1.9.0"]
    assert (found.versions[0].status, found.versions[0].reason) == ("yanked", "wrong")
    assert found.summary == "The transform min-p"
    assert found.kinds == ("transform",)


def test_platforms_and_devices_come_from_all_wheels() -> None:
    def file(tag: str, **needs: object) -> dict[str, object]:
        name = f"llama_plugin_min_p-1.0.0-{tag}.whl"
        return {"filename": name, "sha256": "a" * 64, "size": 1, "tags": [tag], "needs": needs}

    linux = file("py3-none-manylinux_2_28_x86_64", os=["linux"], arch=["x86_64"], cuda=">=12.4")
    windows = file("py3-none-win_amd64", os=["windows"], arch=["x86_64"], cuda=">=12.4")
    found = summarize([record(files=[linux, windows])], verified=False)
    assert found.platforms == ("linux/x86_64", "windows/x86_64")
    assert found.devices == ("cuda>=12.4",)
    plain = file("py3-none-any")
    anywhere = summarize([record(files=[linux, plain])], verified=False)
    assert (anywhere.platforms, anywhere.devices) == ((), ())


@pytest.mark.parametrize(
    "line",
    [
        {"name": 1},
        {"name": "x"},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "surprise": "x"},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "versions": [{}]},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "versions": [1]},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "provides": [1]},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "verified": "yes"},
        {"name": "x", "plugin": "x", "publisher": "x", "summary": "x", "versions": 3},
    ],
    ids=range(8),
)
def test_a_line_that_is_wrong_is_refused(line: dict[str, object]) -> None:
    with pytest.raises(RecordRefused, match="a line of the catalogue"):
        read_line(json.dumps(line).encode())


def test_an_old_version_that_alone_fits_is_in_the_line() -> None:
    """A line has room for some versions, and the newest of a plugin may all need a new core."""
    new = [record(version=f"2.{n}", requires_core=">=9") for n in range(15)]
    old = [record(version=f"1.{n}", requires_core=">=0.1") for n in range(15)]
    line = write_line(summarize([*old, *new], verified=False))
    versions = [each.version for each in read_line(line).versions]
    assert versions == [*(f"2.{n}" for n in range(14, 4, -1)), "1.14"]


def test_a_line_may_say_every_status_of_a_record() -> None:
    assert get_args(Status) == STATUSES
