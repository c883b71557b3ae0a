"""Which version and which wheel, by rule, and what is said of the others."""

from __future__ import annotations

from typing import Any

import pytest
from llama_marketplace.index.catalogue import Offered
from llama_marketplace.index.record import Change, Record
from llama_marketplace.install.choosing import choose, unfit
from llama_marketplace.install.faults import DoesNotFit
from llama_marketplace.install.machine import Machine
from packaging.specifiers import SpecifierSet

NAME = "llama-plugin-fast"
LINUX = "py3-none-manylinux_2_28_x86_64"
MACHINE = Machine(
    os="linux",
    arch="x86_64",
    tags=(LINUX, "py3-none-any"),
    tiers=("portable", "avx2"),
    cuda="12.4",
    rocm=None,
    python="3.12.1",
    core="0.5.0",
)


def release(version: str, *wheels: tuple[str, dict[str, Any]], **more: Any) -> Record:
    """A version with these wheels, each of a tag (and a build number) and needs."""
    files = []
    for build, (tag, needs) in enumerate(wheels or (("py3-none-any", {}),), 1):
        filename = f"llama_plugin_fast-{version}-{build}-{tag}.whl"
        files.append(
            {"filename": filename, "sha256": f"{build:064x}", "size": 9, "tags": [tag],
             "needs": needs}
        )  # fmt: skip
    table = {
        "name": NAME, "version": version, "plugin": "fast", "package": "llama_plugin_fast",
        "publisher": "ann", "summary": "Fast", "files": files,
        "published": "2026-01-02T00:00:00Z",
        "history": [{"status": "active", "date": "2026-01-02"}],
    }  # fmt: skip
    return Record.model_validate(table | more)


def status(word: str) -> dict[str, Any]:
    change = Change(status=word, date="2026-01-02", reason="because")  # type: ignore[arg-type]
    return {"history": [change.model_dump()]}


def test_the_newest_that_fits_and_why_not_the_newer() -> None:
    releases = [
        release("1.0"),
        release("2.0"),
        release("3.0", requires_core=">=9"),
        release("4.0", requires_python=">=3.14"),
        release("5.0", **status("yanked")),
        release("6.0", **status("quarantined")),
        release("7.0rc1"),
        release("8.0", (LINUX, {"arch": ["aarch64"]})),
    ]
    chosen = choose(releases, SpecifierSet(), MACHINE)
    assert chosen.record.version == "2.0"
    why = {each.name: each.why for each in chosen.newer}
    assert list(why) == ["8.0", "7.0rc1", "6.0", "5.0", "4.0", "3.0"]
    assert "is for aarch64, and this is x86_64" in why["8.0"]
    assert "pre-release" in why["7.0rc1"]
    assert why["6.0"] == "quarantined: because"
    assert why["5.0"] == "yanked: because"
    assert why["4.0"] == "needs Python >=3.14, and 3.12.1 is here"
    assert why["3.0"] == "needs llama-core >=9, and 0.5.0 is here"


def test_what_was_asked_for_exactly_may_be_yanked_but_not_quarantined() -> None:
    yanked, bad = release("1.0", **status("yanked")), release("2.0", **status("quarantined"))
    assert choose([yanked, bad], SpecifierSet("==1.0"), MACHINE).record is yanked
    with pytest.raises(DoesNotFit, match="2.0: quarantined: because"):
        choose([yanked, bad], SpecifierSet("==2.0"), MACHINE)
    assert choose([release("7.0rc1")], SpecifierSet("==7.0rc1"), MACHINE)


# The wheels of a version -> which one is taken, by its number.
WHEELS: list[tuple[list[tuple[str, dict[str, Any]]], int]] = [
    ([("py3-none-any", {}), (LINUX, {})], 2),  # the tag that fits best
    ([(LINUX, {"cpu": "avx2"}), (LINUX, {}), (LINUX, {"cpu": "avx512"})], 1),
    ([(LINUX, {"cuda": ">=12.0"}), (LINUX, {"cpu": "avx2"})], 1),
    ([(LINUX, {"cuda": ">=11.8"}), (LINUX, {"cuda": ">=12.1"}), (LINUX, {"cuda": ">=13"})], 2),
    ([(LINUX, {"rocm": ">=6"}), (LINUX, {})], 2),
    ([("py3-none-macosx_14_0_arm64", {}), ("py3-none-any", {"os": ["windows"]}),
      ("py3-none-any", {"os": ["linux"]})], 3),
]  # fmt: skip


@pytest.mark.parametrize(("wheels", "number"), WHEELS)
def test_the_wheel_for_this_machine(wheels: list, number: int) -> None:
    chosen = choose([release("1.0", *[(t, dict(n)) for t, n in wheels])], SpecifierSet(), MACHINE)
    assert int(chosen.file.sha256, 16) == number
    assert len(chosen.wheels) == len(wheels) - 1  # each other one, with its reason
    assert all(each.why for each in chosen.wheels)


def test_a_machine_that_cannot_run_it_is_told_before_the_download() -> None:
    only = release("1.0", (LINUX, {"cuda": ">=13.0"}), (LINUX, {"rocm": ">=6"}))
    with pytest.raises(DoesNotFit) as caught:
        choose([only], SpecifierSet(), MACHINE)
    assert "needs CUDA >=13.0, and 12.4 is here" in str(caught.value)
    assert "needs ROCm >=6, and there is none here" in str(caught.value)


def test_the_rule_can_be_overridden() -> None:
    record = release("1.0", (LINUX, {"cuda": ">=12.0"}), (LINUX, {"rocm": ">=6"}))
    chosen = choose([record], SpecifierSet(), MACHINE, wheel=record.files[1].filename)
    assert chosen.file is record.files[1]
    assert chosen.why == "asked for by name, though it needs ROCm >=6, and there is none here"


def test_search_knows_the_same_reasons() -> None:
    anywhere = SpecifierSet()
    assert unfit(Offered("1.0"), anywhere, MACHINE) is None
    assert unfit(Offered("1.0", platforms=("linux/x86_64",)), anywhere, MACHINE) is None
    assert unfit(Offered("1.0", platforms=("linux/any",)), anywhere, MACHINE) is None
    assert "runs on macos" in str(
        unfit(Offered("1.0", platforms=("macos/aarch64",)), anywhere, MACHINE)
    )
    assert unfit(Offered("1.0", devices=("cuda>=12", "rocm>=6")), anywhere, MACHINE) is None
    assert "needs rocm>=6" in str(unfit(Offered("1.0", devices=("rocm>=6",)), anywhere, MACHINE))
    assert "quarantined: x" in str(
        unfit(Offered("1.0", status="quarantined", reason="x"), anywhere, MACHINE)
    )


def test_this_machine_can_be_described() -> None:
    here = Machine()
    assert here.os in str(here)
    assert "py3-none-any" in here.tags
    assert here.tiers[0] == "portable"
