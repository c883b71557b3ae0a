"""What the page searches: what stands in it, how much room it takes, and that it is only data."""

from __future__ import annotations

import json
from typing import Any

from llama_marketplace.site.listing import Listing
from operating import record

from .making import change, entry, everybody_hostile


def read(script: bytes) -> Any:
    comment, line = script.decode("ascii").splitlines()
    assert comment.startswith("/* llama marketplace site")
    assert line.startswith("const CATALOGUE=")
    assert line.endswith(";")
    return json.loads(line.removeprefix("const CATALOGUE=").removesuffix(";"))


def file(tag: str, **needs: object) -> dict[str, object]:
    name = f"llama_plugin_min_p-1.0.0-{tag}.whl"
    return {"filename": name, "sha256": "a" * 64, "size": 1, "tags": [tag], "needs": needs}


def test_a_row_has_what_is_searched_and_shown() -> None:
    listing = Listing()
    linux = file("py3-none-manylinux_2_28_x86_64", os=["linux"], arch=["x86_64"], cuda=">=12.4")
    tried = {"core": "0.1.0", "date": "2026-01-02", "suite": "x", "passed": 3, "failed": 1}
    listing.add(entry(record(files=[linux], conformance=[tried]), record(version="0.1")))
    listing.add(
        entry(record(name="llama-plugin-x", history=[change("yanked", "wrong")]), verified=False)
    )
    data = read(listing.script())
    assert data["plugins"][0] == [
        "llama-plugin-min-p", "1.0.0", "The transform min-p", 1, 1, 1, "2026-01-02",
        ["transform:min-p"], [1], ["cuda"], "0.1.0", "2026-01-02", 1,
    ]  # fmt: skip
    assert data["plugins"][1][4] == 0
    assert data["plugins"][1][-2:] == [data["statuses"].index("yanked"), "wrong"]
    assert (data["publishers"], data["places"]) == (["", "acme"], ["", "linux/x86_64"])


def test_hostile_words_are_data() -> None:
    listing = Listing()
    for each in everybody_hostile():
        listing.add(entry(each.model_copy(update={"summary": f"{each.summary}\u202e\u2028é"})))
    script = listing.script()
    assert b"<" not in script
    summaries = [row[2] for row in read(script)["plugins"]]
    assert summaries == [f"{each.summary} é" for each in everybody_hostile()]


def test_ten_thousand_rows_are_small() -> None:
    listing = Listing()
    wordy = record(summary="Drops tokens that are much less likely than the likeliest one " * 2)
    for number in range(10_000):
        listing.add(entry(wordy.model_copy(update={"name": f"llama-plugin-gen-{number:05}"})))
    assert len(listing) == 10_000
    assert len(listing.script()) < 3 << 20
