"""The pages: what a visitor reads there, and that strangers' words stay words."""

from __future__ import annotations

import pytest
from llama_marketplace.site import rendering
from llama_marketplace.site.entries import Home
from operating import record

from . import strict
from .making import HOME, HOSTILE, change, entry, everybody_hostile, hostile


def words_of(page: bytes) -> str:
    return " ".join(strict.read(page.decode()).words)


def test_a_page_says_all_that_the_record_says() -> None:
    old = record(version="0.9.0", history=[change("active"), change("yanked", "wrong results")])
    new = record(
        version="1.0.0",
        homepage="https://acme.example/min-p",
        permissions=["network"],
        requires=["numpy>=1.26"],
        readme="# Min-p\n\nDrops the *unlikely*.",
        conformance=[
            {"core": core, "date": day, "suite": "transform min-p", "passed": 12, "failed": failed}
            for core, day, failed in (("0.1.0", "2026-01-02", 1), ("0.2.0", "2026-03-04", 0))
        ],
        provides=[{"kind": "transform", "name": "min-p", "api": 1, "combines": ["lora"]}],
    )
    page = rendering.plugin(entry(new, old))
    words = words_of(page)
    for said in (
        "llama-plugin-min-p 1.0.0",
        "verified publisher",
        "conforms with core 0.2.0, 2026-03-04",
        "fails with core 0.1.0, 2026-01-02",
        "llama marketplace install llama-plugin-min-p",
        f"llama marketplace indexes add corp https://plugins.corp.example/ --root {HOME.root}",
        "Says that it uses network",
        "numpy>=1.26",
        "transform min-p ; with lora",
        "2026-02-03: yanked, wrong results",
        "Drops the unlikely .",
        *(file.sha256 for each in (new, old) for file in each.files),
    ):
        assert said in words, said
    links = strict.read(page.decode()).links
    assert "https://acme.example/min-p" in links
    assert f"https://plugins.corp.example/{new.files[0].path}" in links
    assert page == rendering.plugin(entry(new, old))


def test_what_is_not_to_be_had_says_why_and_has_no_install_line() -> None:
    for status in ("yanked", "quarantined"):
        page = rendering.plugin(entry(record(history=[change(status, "it mines")])))
        words = words_of(page)
        assert f"{status.capitalize()} since 2026-02-03: it mines" in words
        assert "marketplace install" not in words
        linked = any(each.endswith(".whl") for each in strict.read(page.decode()).links)
        assert linked == (status == "yanked")


def test_a_pre_release_alone_is_asked_for_by_its_version() -> None:
    words = words_of(rendering.plugin(entry(record(version="1.0rc1"))))
    assert "llama marketplace install llama-plugin-min-p==1.0rc1" in words


def test_without_an_address_nothing_leads_to_the_index() -> None:
    made = entry(record())
    alone = type(made)(Home("corp", "ab" * 32), False, made.releases)
    page = strict.read(rendering.plugin(alone).decode())
    assert not any(each.endswith(".whl") for each in page.links)
    assert "indexes add" not in " ".join(page.words)
    assert "not verified by the index" in " ".join(page.words)


@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_hostile_words_stay_words(number: int) -> None:
    made = hostile(number, HOSTILE[number])
    page = strict.read(rendering.plugin(entry(made)).decode())
    scripts = [found["src"] for tag, found in page.elements if tag == "script"]
    assert [str(each).partition("?")[0] for each in scripts] == ["../copy.js"]
    assert "".join(HOSTILE[number].split()) in "".join("".join(page.words).split())


def test_the_policy_comes_before_all_that_loads_and_lets_nothing_inline() -> None:
    for page in (
        rendering.front([HOME], 1, b"x"),
        rendering.everything([("llama-plugin-x", "1.0", "X")]),
        rendering.plugin(entry(record())),
    ):
        read = strict.read(page.decode())
        tags = [tag for tag, _ in read.elements]
        policy = tags.index("meta") + 1
        assert read.elements[policy][1]["http-equiv"] == "Content-Security-Policy"
        assert "default-src 'none'" in str(read.elements[policy][1]["content"])
        assert "unsafe" not in str(read.elements[policy][1]["content"])
        assert min(tags.index("link"), tags.index("title")) > policy


def test_all_plugins_are_on_one_page_too() -> None:
    rows = [(each.name, each.version, each.summary) for each in everybody_hostile()]
    page = strict.read(rendering.everything(rows).decode())
    assert [each for each in page.links if each.startswith("plugins/")] == [
        f"plugins/{name}.html" for name, *_ in rows
    ]
