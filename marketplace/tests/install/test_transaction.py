"""Installing, updating, going back: always whole, and nothing is run outside of a child."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from llama_marketplace.install import transaction
from llama_marketplace.install.base import Base
from llama_marketplace.install.faults import CannotResolve, DoesNotFit, InstallFailed
from llama_marketplace.install.generations import NOTHING
from llama_marketplace.install.planning import Wanted
from llama_marketplace.install.transaction import roll_back
from llama_marketplace.wheels import WheelRefused
from packaging.specifiers import SpecifierSet

from llama_core import overlay
from llama_core.errors import LlamaError
from llama_core.testing.site import Site

from ..wheels.making import SOURCE, Made
from .conftest import Shop
from .market import Untried

NAME = "llama-plugin-rhyme"


def test_a_plugin_is_there_after_it_was_installed(careful_shop: Shop, llama: Callable) -> None:
    shop = careful_shop
    shop.market.publish(Made())
    new = shop.install(NAME)
    assert (new.number, shop.versions()) == (1, {NAME: "1.0"})
    assert (shop.problems(), shop.leftovers()) == ([], [])
    assert "llama_plugin_rhyme" not in sys.modules
    listed = llama("plugins", "list")
    assert "rhyme" in listed.stdout, listed.stderr
    assert "rhyme" not in llama("--no-plugins", "doctor").stdout
    assert llama("plugins", "doctor", "rhyme").returncode == 0


def test_updating_and_going_back(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    shop.market.publish(Made(version="1.1"))
    shop.market.publish(Made(version="2.0", requires=("llama-core>=99",)))
    plan = shop.planner.update()
    [pick] = plan.picks
    assert [(p.name, "needs llama-core >=99" in p.why) for p in pick.chosen.newer] == [
        ("2.0", True)
    ]
    shop.carry_out(plan)
    assert shop.versions() == {NAME: "1.1"}
    assert not shop.planner.update().changes
    fetched = shop.market.num_fetched
    roll_back(shop.generations)
    assert shop.versions() == {NAME: "1.0"}
    roll_back(shop.generations, 2)
    assert shop.versions() == {NAME: "1.1"}
    roll_back(shop.generations)
    roll_back(shop.generations)
    assert shop.generations.current() == NOTHING
    assert shop.market.num_fetched == fetched  # going back needs no index
    with pytest.raises(InstallFailed, match="nothing to go back to; there are: 0, 1, 2"):
        roll_back(shop.generations)


def test_others_stay_when_one_comes_or_goes(shop: Shop) -> None:
    for plugin in ("rhyme", "reason"):
        shop.market.publish(Made(plugin=plugin))
    shop.install(NAME)
    shop.install("llama-plugin-reason")
    assert shop.versions() == {NAME: "1.0", "llama-plugin-reason": "1.0"}
    assert shop.market.num_fetched == 2  # the first one's files were taken over
    shop.carry_out(shop.planner.uninstall(["rhyme"]))
    assert shop.versions() == {"llama-plugin-reason": "1.0"}
    shop.carry_out(shop.planner.uninstall(["llama-plugin-reason"]))
    assert (shop.versions(), shop.problems()) == ({}, [])


def test_a_plugin_brings_the_plugin_that_it_needs(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.market.publish(Made(version="2.0"))
    shop.market.publish(Made(plugin="song", requires=("llama-core>=0.1", f"{NAME}<2")))
    shop.install("llama-plugin-song")
    assert shop.versions() == {NAME: "1.0", "llama-plugin-song": "1.0"}
    with pytest.raises(
        InstallFailed, match=f"song needs {NAME}.*uninstall {NAME} llama-plugin-song"
    ):
        shop.planner.uninstall(["rhyme"])
    with pytest.raises(CannotResolve, match=f"song needs {NAME}<2"):
        shop.install(wanted=[Wanted(NAME, SpecifierSet("==2.0"))])
    shop.carry_out(shop.planner.uninstall(["rhyme", "song"]))
    assert shop.versions() == {}


# What keeps a plugin from being installed: the wheel, what is raised, a word of it.
BROKEN = {
    "raises": (Made(source="raise RuntimeError('no luck')"), InstallFailed, "no luck"),
    "exits": (Made(source="import os; os._exit(3)"), InstallFailed, "ended with 3"),
    "lies": (Made(source="x = 1"), InstallFailed, "llama_create_transform"),
    "is not made": (
        Made(source=SOURCE.replace("return Rhyme()", "raise ValueError('never')")),
        InstallFailed,
        "never",
    ),
    "is no transform": (
        Made(source=SOURCE.replace("return Rhyme()", "return 5")), InstallFailed, "rhyme"),
    "contradicts": (
        Made(requires=("llama-core>=0.1", "numpy<1")), CannotResolve, "pip install 'numpy<1'"),
    "needs a newer core": (
        Made(requires=("llama-core>=99",)), DoesNotFit, "needs llama-core >=99"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_what_fails_leaves_the_old_state_whole(careful_shop: Shop, what: str) -> None:
    shop = careful_shop
    shop.market.publish(Made(plugin="reason"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transaction, "Trial", Untried)
        shop.install("llama-plugin-reason")
    made, error, word = BROKEN[what]
    shop.market.publish(made)
    with pytest.raises(error, match=word) as caught:
        shop.install(NAME)
    assert str(caught.value).isprintable()
    assert shop.versions() == {"llama-plugin-reason": "1.0"}
    assert (shop.problems(), shop.leftovers()) == ([], [])
    assert shop.generations.numbers() == [1]


# What the record says that the wheel does not.
LIES = {
    "permissions": {"permissions": ("network",)},
    "requirements": {"requires": ("numpy",)},
    "plugin": {"plugin": "verse"},
    "capabilities": {"provides": ()},
}


@pytest.mark.parametrize("what", LIES)
def test_a_wheel_that_is_not_its_record_is_refused(shop: Shop, what: str) -> None:
    shop.market.publish(Made(), **LIES[what])
    with pytest.raises(InstallFailed, match=f"not what its record says: its {what}"):
        shop.install(NAME)
    assert shop.versions() == {}


def test_a_signed_wheel_is_inspected_all_the_same(shop: Shop) -> None:
    record = shop.market.publish(Made())
    wheel = Made(files={"rhyme.pth": b"import sys"}).write(shop.market.folder)
    file = record.files[0].model_copy(update={"sha256": "0" * 64, "size": wheel.stat().st_size})
    shop.market.records[NAME] = [record.model_copy(update={"files": (file,)})]
    with pytest.raises(WheelRefused, match="whenever Python starts"):
        shop.install(NAME)


@pytest.fixture
def by_pip(tmp_path: Path) -> Iterator[None]:
    """This environment has a plugin `verse` that pip installed."""
    site = Site(tmp_path / "site-packages")
    site.add("verse", {"provides": [{"kind": "transform", "name": "verse", "api": 1}]})
    with site.on_path():
        yield


@pytest.mark.usefixtures("by_pip")
def test_a_module_that_is_here_is_not_brought_a_second_time(shop: Shop) -> None:
    shop.base = Base()
    shop.market.publish(Made(plugin="verse", dist="llama-plugin-verses"))
    with pytest.raises(InstallFailed, match="'llama_plugin_verse', which this environment"):
        shop.install("llama-plugin-verses")


@pytest.mark.usefixtures("by_pip")
def test_what_pip_installed_is_not_taken_over(shop: Shop) -> None:
    shop.market.publish(Made(plugin="verse", version="9.0"))
    with pytest.raises(InstallFailed, match="installed by pip or the like") as caught:
        shop.install("llama-plugin-verse")
    assert "pip install --upgrade llama-plugin-verse" in str(caught.value)
    with pytest.raises(InstallFailed, match="was not installed from here"):
        shop.planner.uninstall(["llama-plugin-verse"])


def test_a_name_does_not_change_hands(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    shop.market.records.clear()
    shop.market.publish(Made(version="2.0"), publisher="eve")
    with pytest.raises(InstallFailed, match="installed from ann of 'shop', and now eve"):
        shop.planner.update()


def test_a_name_that_is_nearly_another_s_is_said(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.market.publish(Made(plugin="rhmye"), publisher="eve")
    plan = shop.planner.install([Wanted("llama-plugin-rhmye")])
    assert "nearly the name of llama-plugin-rhyme by ann" in plan.notes[0]
    assert shop.planner.install([Wanted(NAME)]).picks


def test_two_at_once_are_one_too_many(shop: Shop) -> None:
    shop.market.publish(Made())
    plan = shop.planner.install([Wanted(NAME)])
    with shop.generations.locked(), pytest.raises(InstallFailed, match="another llama"):
        shop.carry_out(plan)
    shop.carry_out(plan)
    with pytest.raises(InstallFailed, match="has changed since this was planned"):
        shop.carry_out(plan)


def test_old_generations_go_and_the_way_back_stays(shop: Shop) -> None:
    for number in range(9):
        shop.market.publish(Made(version=f"1.{number}"))
        shop.install(NAME)
    assert shop.generations.numbers() == [5, 6, 7, 8, 9]
    roll_back(shop.generations)
    assert shop.versions() == {NAME: "1.7"}


# What somebody does to the files, and what `verify` says of it.
DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "changed": (
        lambda site: (site / "llama_plugin_rhyme/__init__.py").write_text(SOURCE[:-1] + "#"),
        "was changed since"),
    "cut": (
        lambda site: (site / "llama_plugin_rhyme/__init__.py").write_text(""), "bytes, and"),
    "gone": (lambda site: (site / "llama_plugin_rhyme/plugin.toml").unlink(), "cannot be read"),
    "added": (lambda site: (site / "evil.py").write_text("x"), "belongs to nothing"),
    "a folder linked in": (
        lambda site: (site / "evil").symlink_to(site / "llama_plugin_rhyme"), "belongs to nothing"),
    "a link in its place": (
        lambda site: (
            (site / "llama_plugin_rhyme/plugin.toml").rename(site.parent / "x"),
            (site / "llama_plugin_rhyme/plugin.toml").symlink_to(site.parent / "x"),
        ), "is a link now"),
    "a .pth": (lambda site: (site / "evil.pth").write_text("x"), "belongs to nothing"),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(shop: Shop, what: str) -> None:
    shop.market.publish(Made())
    new = shop.install(NAME)
    damage, word = DAMAGE[what]
    damage(shop.generations.folder(new.number) / overlay.PACKAGES)
    assert any(word in each for each in shop.problems()), shop.problems()


def test_a_generation_that_cannot_be_read_names_the_way_back(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    shop.market.publish(Made(version="2.0"))
    shop.install(NAME)
    (shop.generations.folder(2) / "generation.json").write_text('{"schema": 1')
    with pytest.raises(LlamaError, match=r"generation 2 is damaged.*rollback --to 1"):
        shop.generations.current()


def test_nobody_goes_back_to_half_a_generation(shop: Shop) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    shop.market.publish(Made(version="2.0"))
    shop.install(NAME)
    site = shop.generations.folder(1) / overlay.PACKAGES
    (site / "llama_plugin_rhyme/__init__.py").unlink()
    with pytest.raises(LlamaError, match=r"generation 1 is not whole: llama_plugin_rhyme/__init__"):
        roll_back(shop.generations)
    assert shop.versions() == {NAME: "2.0"}


def test_a_full_disk_is_one_line_and_changes_nothing(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.market.publish(Made())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InstallFailed, match="cannot write somewhere: No space left on device"):
        shop.install(NAME)
    assert shop.generations.numbers() == []
    assert shop.leftovers() == []


MANY = """
name = "rhyme"
summary = "Several things"
[[provides]]
kind = "transform"
name = "rhyme"
api = 1
[[provides]]
kind = "transform"
name = "elsewhere"
api = 1
needs = { arch = ["vax"] }
[[provides]]
kind = "transform"
name = "choosy"
api = 1
"""
CHOOSY = SOURCE.replace(
    "    return Rhyme()",
    """    from llama_core.errors import OptionsError

    if name == "choosy":
        raise OptionsError("choosy needs a word", remedy="Give it one.")
    assert name == "rhyme"
    return Rhyme()""",
)


def test_what_cannot_be_tried_here_keeps_nobody_from_installing(careful_shop: Shop) -> None:
    made = Made(source=CHOOSY, files={"llama_plugin_rhyme/plugin.toml": MANY.encode()})
    careful_shop.market.publish(made)
    careful_shop.install(NAME)
    assert careful_shop.versions() == {NAME: "1.0"}


def test_all_of_it_is_on_the_disk_before_it_is_in_force(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.market.publish(Made())
    shop.install(NAME)
    synced, missed = set(), []
    sync, switch = os.fsync, shop.generations.switch

    def fsync(handle: int) -> None:
        synced.add(os.fstat(handle).st_ino)
        sync(handle)

    def look(number: int) -> None:
        folder = shop.generations.folder(number)
        missed.extend(
            each for each in [folder, *folder.rglob("*")] if each.stat().st_ino not in synced
        )
        switch(number)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(shop.generations, "switch", look)
    shop.market.publish(Made(plugin="reason"))
    shop.install("llama-plugin-reason")  # and the other one is taken over
    assert shop.versions() == {NAME: "1.0", "llama-plugin-reason": "1.0"}
    assert missed == []
