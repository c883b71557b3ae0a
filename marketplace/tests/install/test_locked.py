"""A lock file and what has become of its plugins since: which one, why, and what to do."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pytest
from llama_marketplace.index.record import Change
from llama_marketplace.install.faults import CannotResolve, DoesNotFit
from llama_marketplace.install.generations import Dist

from llama_core.errors import LlamaError

from ..wheels.making import SOURCE, Made
from .conftest import Shop

NAME = "llama-plugin-rhyme"
FILE = "llama_plugin_rhyme-1.0-py3-none-any.whl"
AGAIN = f"llama marketplace update {NAME}, then llama marketplace lock"


@pytest.fixture
def locked(shop: Shop) -> Sequence[Dist]:
    """What a lock file names; nothing of it is installed here."""
    shop.market.publish(Made())
    shop.install(NAME)
    dists = shop.generations.current().dists
    shop.carry_out(shop.planner.uninstall([NAME]))
    return dists


def became(shop: Shop, status: str) -> None:
    change = Change(status=status, date=date(2026, 3, 4), reason="steals keys")  # type: ignore[arg-type]
    (record,) = shop.market.records[NAME]
    shop.market.records[NAME] = [record.model_copy(update={"history": (change,)})]


def refused(shop: Shop, dists: Sequence[Dist], kind: type[LlamaError]) -> str:
    with pytest.raises(kind) as caught:
        shop.planner.exactly(dists)
    assert FILE in caught.value.message
    return f"{caught.value}"


def test_what_is_quarantined_is_refused_with_its_reason(shop: Shop, locked: Sequence[Dist]) -> None:
    became(shop, "quarantined")
    said = refused(shop, locked, DoesNotFit)
    assert "is quarantined by 'shop' since 2026-03-04: steals keys" in said
    assert AGAIN in said


@pytest.mark.parametrize("status", ["yanked", "deprecated"])
def test_what_is_yanked_is_installed_and_told(
    shop: Shop, locked: Sequence[Dist], status: str
) -> None:
    became(shop, status)
    plan = shop.planner.exactly(locked)
    (note,) = plan.notes
    assert f"{FILE}, which the lock file names, is {status} by 'shop' since" in note
    assert "steals keys" in note
    assert AGAIN in note
    shop.carry_out(plan)
    assert shop.versions() == {NAME: "1.0"}


def test_what_is_gone_is_told_with_where_it_was_from(shop: Shop, locked: Sequence[Dist]) -> None:
    del shop.market.records[NAME]
    said = refused(shop, locked, CannotResolve)
    assert f"was locked from 'shop', and there is no {NAME} in 'shop' now" in said
    assert f"llama marketplace uninstall {NAME}, then llama marketplace lock" in said


def test_a_version_that_is_gone_and_one_of_other_bytes(shop: Shop, locked: Sequence[Dist]) -> None:
    del shop.market.records[NAME]
    shop.market.publish(Made(version="1.1"))
    said = refused(shop, locked, CannotResolve)
    assert "'shop' has no such version any more" in said
    assert AGAIN in said
    shop.market.publish(Made(source=SOURCE + "# changed\n"))
    shop.market.name = "other"
    said = refused(shop, locked, CannotResolve)
    assert "'other' has no wheel with the bytes of" in said
    assert "trust 'shop' too" in said


def test_what_does_not_fit_here_is_told_with_the_lock_file(
    shop: Shop, locked: Sequence[Dist]
) -> None:
    (record,) = shop.market.records[NAME]
    shop.market.records[NAME] = [record.model_copy(update={"requires_core": ">=99"})]
    said = refused(shop, locked, DoesNotFit)
    assert "needs llama-core >=99" in said
    assert "llama marketplace lock" in said
