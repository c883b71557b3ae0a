"""A publisher and an operator who share no machine: what is handed over, and what is not taken."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.errors import IndexFailed, KeyTrouble, RecordRefused
from llama_marketplace.index.record import Change, Record
from llama_marketplace.publish.accepting import Accepted, accept
from llama_marketplace.publish.offering import Offer
from llama_marketplace.publish.recording import record_of
from llama_marketplace.sources import Source
from llama_marketplace.trust import keys
from llama_marketplace.trust.keys import KeyRing
from llama_marketplace.wheels import inspect
from llama_marketplace.wheels.refusal import WheelRefused
from operating import Operator
from tuf.api.metadata import DelegatedRole, Delegations, TargetFile

from llama_core.errors import LlamaError

from ..wheels.making import SOURCE, Made

NAME = "llama-plugin-rhyme"
YANKED = Change(status="yanked", date=date(2026, 5, 1), reason="wrong results")


class Publisher:
    """Who has a key and the address of an index, and none of its keys nor its folder."""

    def __init__(self, name: str, key: Path, source: Source, folder: Path) -> None:
        self.name, self.key, self.source, self.folder = name, key, source, folder
        self.num_offers = 0

    def begin(self) -> Offer:
        self.source.refresh()
        return Offer(self.source, self.name, KeyRing.open([self.key]), datetime.now(UTC))

    def record(self, *wheels: Path, **changed: Any) -> Record:
        found = record_of(
            [inspect(each) for each in wheels], publisher=self.name, now=datetime.now(UTC), needs={}
        )
        return found.model_copy(update=changed)

    def write(self, offer: Offer) -> Path:
        self.num_offers += 1
        place = self.folder / f"offer-{self.num_offers}"
        offer.write(place)
        return place

    def offer(self, wheel: Path, **changed: Any) -> Path:
        """As `publish --offer` does; `changed` is what the record then says otherwise."""
        offer = self.begin()
        offer.add([self.record(wheel, **changed)], [wheel])
        return self.write(offer)


@pytest.fixture
def url(operator: Operator, serve: Any) -> str:
    """The index, whose operator has no key of a publisher."""
    index = operator.open()
    index.add_publisher("mallory", [keys.create(operator.keys / "mallory.pem")])
    index.commit(operator.ring)
    for name in ("acme", "mallory"):
        (operator.keys / f"{name}.pem").rename(operator.folder.parent / f"{name}.pem")
    return str(serve(operator.folder))


@pytest.fixture
def publisher(
    operator: Operator, url: str, source_of: Callable[..., Source], tmp_path: Path
) -> Callable[[str], Publisher]:
    def make(name: str) -> Publisher:
        source = source_of(url, operator.root, user=name)
        return Publisher(name, tmp_path / f"{name}.pem", source, tmp_path / f"of-{name}")

    return make


@pytest.fixture
def acme(publisher: Callable[[str], Publisher]) -> Publisher:
    return publisher("acme")


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    return tmp_path / "dist"


def taken(operator: Operator, offer: Path) -> Accepted:
    index = operator.open()
    done = accept(index, offer)
    index.commit(operator.ring)
    return done


def test_what_a_publisher_signed_elsewhere_is_to_be_had(
    operator: Operator, acme: Publisher, url: str, source_of: Callable[..., Source], dist: Path
) -> None:
    wheel = Made().write(dist)
    offer = acme.offer(wheel)
    done = taken(operator, offer)
    assert [(each.name, each.version) for each in done.records] == [(NAME, "1.0")]
    signed = (offer / "metadata" / "1.acme.json").read_bytes()
    assert (operator.folder / "metadata" / "1.acme.json").read_bytes() == signed
    user = source_of(url, operator.root, user="user")
    user.refresh()
    assert [each.name for each in user.summaries(["rhyme"])] == [NAME]
    (found,) = user.releases(NAME)
    assert user.fetch(found.files[0], dist / "user").read_bytes() == wheel.read_bytes()
    assert wheel.name in (operator.folder / "simple" / NAME / "index.html").read_text()

    later = Made(version="1.1").write(dist)
    linux = Made(tag="py3-none-manylinux_2_28_x86_64").write(dist)
    taken(operator, acme.offer(later))
    taken(operator, acme.offer(linux))  # one more wheel of the first version
    offer = acme.begin()
    offer.change_status(NAME, "1.1", YANKED)
    taken(operator, acme.write(offer))
    user.refresh()
    newest, first = user.releases(NAME)
    assert (newest.version, newest.status.status) == ("1.1", "yanked")
    assert [each.filename for each in first.files] == sorted([wheel.name, linux.name])


def test_nothing_new_may_be_signed_again(operator: Operator, acme: Publisher, dist: Path) -> None:
    taken(operator, acme.offer(Made().write(dist)))
    index = operator.open(datetime.now(UTC) + timedelta(days=300))
    assert "acme" in index.roles.expiring(timedelta(days=70))
    assert taken(operator, acme.write(acme.begin())).records == ()
    index = operator.open()
    assert index.roles.role("acme").signed.version == 2
    assert [each.version for each in index.records(NAME)] == ["1.0"]


def test_two_keys_that_must_sign_both_do(
    operator: Operator, acme: Publisher, dist: Path, tmp_path: Path
) -> None:
    new = [keys.create(tmp_path / "two" / f"{n}.pem") for n in range(2)]
    index = operator.open()
    index.roles.set_keys("acme", new, 2, operator.ring)
    index.commit(operator.ring)
    acme.key = tmp_path / "two" / "0.pem"
    with pytest.raises(KeyTrouble, match="'acme' needs 2 of its keys"):
        acme.begin()
    acme.key = tmp_path / "two"
    assert taken(operator, acme.offer(Made().write(dist))).publisher == "acme"


def test_whose_a_name_is_is_said_before_anything_is_signed(
    operator: Operator, acme: Publisher, publisher: Callable[[str], Publisher], dist: Path
) -> None:
    wheel = Made().write(dist)
    taken(operator, acme.offer(wheel))
    with pytest.raises(IndexFailed, match=f"{NAME} is acme's in 'main'"):
        publisher("mallory").offer(wheel)
    stranger = Publisher("nobody", acme.key, acme.source, acme.folder)
    with pytest.raises(IndexFailed, match="knows no publisher 'nobody'"):
        stranger.begin()
    with pytest.raises(IndexFailed, match="has published no llama-plugin-rhyme 9.9"):
        acme.begin().change_status(NAME, "9.9", YANKED)
    with pytest.raises(IndexFailed, match="published already, with other content"):
        acme.offer(Made(source=SOURCE + "# changed\n").write(dist / "other"))
    with pytest.raises(IndexFailed, match="is not empty"):
        acme.begin().write(dist)


# What the operator is sent, by whoever has one publisher's key, and why it is not taken in --------


def replayed(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    taken(operator, offer)
    return offer


def late(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    taken(operator, of.offer(Made(version="1.2").write(dist)))
    return offer


def altered(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    (file,) = (offer / "metadata").glob("*.json")
    file.write_bytes(file.read_bytes().replace(b"/1.1.json", b"/1.2.json"))
    return offer


def of_another(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    (file,) = (offer / "metadata").glob("*.json")
    file.rename(file.with_name("1.mallory.json"))
    return offer


def of_the_index(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    (file,) = (offer / "metadata").glob("*.json")
    file.rename(file.with_name("2.names.json"))
    return offer


def forgetting(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.begin()
    offer._metadata.signed.targets.clear()
    return of.write(offer)


def delegating(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.begin()
    role = DelegatedRole("other", [], 1, True, paths=["records/acme/*/*"])
    offer._metadata.signed.delegations = Delegations({}, {"other": role})
    return of.write(offer)


def for_ever(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.begin()
    offer._metadata.signed.expires += timedelta(days=4000)
    return of.write(offer)


def elsewhere(operator: Operator, of: Publisher, dist: Path) -> Path:
    """A record of another publisher's, under the path of one's own."""
    offer = of.begin()
    wheel = Made(version="1.1").write(dist)
    record = of.record(wheel)
    offer.add([record.model_copy(update={"publisher": "mallory"})], [wheel])
    signed = offer._metadata.signed
    moved = signed.targets.pop("records/mallory/llama-plugin-rhyme/1.1.json")
    moved = TargetFile(moved.length, moved.hashes, record.path)
    signed.targets[record.path] = moved
    offer._contents[record.path] = offer._contents.pop(f"records/mallory/{NAME}/1.1.json")
    return of.write(offer)


def untrue(operator: Operator, of: Publisher, dist: Path) -> Path:
    return of.offer(Made(version="1.1").write(dist), permissions=("network",))


def loose(operator: Operator, of: Publisher, dist: Path) -> Path:
    return of.offer(Made(version="1.1").write(dist), requires_core=">=0")


def hostile(operator: Operator, of: Publisher, dist: Path) -> Path:
    wheel = Made(version="1.1").write(dist)
    record = of.record(wheel)
    Made(version="1.1", files={"evil.pth": b"import os\n"}).write(dist)
    data = wheel.read_bytes()
    file = record.files[0].model_copy(
        update={"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    )
    offer = of.begin()
    offer.add([record.model_copy(update={"files": (file,)})], [wheel])
    return of.write(offer)


def swapped(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    (wheel,) = (offer / "wheels").rglob("*.whl")
    other = Made(version="1.1", source=SOURCE + "# more\n").write(dist / "other")
    shutil.copyfile(other, wheel)
    return offer


def lacking(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    shutil.rmtree(offer / "wheels")
    return offer


def linked(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.offer(Made(version="1.1").write(dist))
    (wheel,) = (offer / "wheels").rglob("*.whl")
    wheel.unlink()
    wheel.symlink_to(dist / wheel.name)
    return offer


def rewriting(operator: Operator, of: Publisher, dist: Path) -> Path:
    """That a version was yanked once is no longer said."""
    offer = of.begin()
    offer.change_status(NAME, "1.0", YANKED)
    taken(operator, of.write(offer))
    offer = of.begin()
    record = offer.before(NAME, "1.0")
    assert record is not None
    offer._put(record.model_copy(update={"history": record.history[:1]}))
    return of.write(offer)


def quarantining(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.begin()
    offer.change_status(NAME, "1.0", YANKED.model_copy(update={"status": "quarantined"}))
    return of.write(offer)


def of_tomorrow(operator: Operator, of: Publisher, dist: Path) -> Path:
    offer = of.begin()
    day = datetime.now(UTC).date() + timedelta(days=9)
    offer.change_status(NAME, "1.0", YANKED.model_copy(update={"date": day}))
    return of.write(offer)


def advertising(operator: Operator, of: Publisher, dist: Path) -> Path:
    """The README of a version that is published says something else, without a wheel that does."""
    offer = of.begin()
    record = offer.before(NAME, "1.0")
    assert record is not None
    offer._put(record.model_copy(update={"readme": "# Buy"}))
    return of.write(offer)


def empty(operator: Operator, of: Publisher, dist: Path) -> Path:
    (dist / "empty").mkdir()
    return dist / "empty"


REFUSED: list[tuple[Callable[..., Path], str, type[LlamaError]]] = [
    (replayed, "3 would be next: something else was taken in since, or this was", IndexFailed),
    (late, "3 would be next", IndexFailed),
    (altered, "not signed by the keys that 'acme' has", IndexFailed),
    (of_another, "not signed by the keys that 'mallory' has", IndexFailed),
    (of_the_index, "'names' is no publisher", IndexFailed),
    (forgetting, "leaves out records/acme/llama-plugin-rhyme/1.0.json", IndexFailed),
    (delegating, "not what a publisher signs", IndexFailed),
    (for_ever, "365 days from now at most", IndexFailed),
    (elsewhere, "is a record of records/mallory", RecordRefused),
    (untrue, "its permissions would be", RecordRefused),
    (loose, "its requires_core would be >=0.1", RecordRefused),
    (hostile, "evil.pth", WheelRefused),
    (swapped, "is not the wheel that was signed for", IndexFailed),
    (lacking, "the offer lacks", IndexFailed),
    (linked, "leads out of the offer", IndexFailed),
    (rewriting, "rewrites the history", IndexFailed),
    (quarantining, "only an index quarantines", IndexFailed),
    (of_tomorrow, "is of a day to come", IndexFailed),
    (advertising, "its readme would be # Rhyme", RecordRefused),
    (empty, "is no offer", IndexFailed),
]


@pytest.mark.parametrize(("attack", "why", "kind"), REFUSED, ids=[e[0].__name__ for e in REFUSED])
def test_what_is_not_in_order_is_refused_and_changes_nothing(
    operator: Operator, acme: Publisher, dist: Path,
    attack: Callable[..., Path], why: str, kind: type[LlamaError],
) -> None:  # fmt: skip
    taken(operator, acme.offer(Made().write(dist)))
    offer = attack(operator, acme, dist)
    before = {file: file.read_bytes() for file in operator.folder.rglob("*") if file.is_file()}
    with pytest.raises(kind) as refused:
        taken(operator, offer)
    assert why in str(refused.value)
    assert before == {f: f.read_bytes() for f in operator.folder.rglob("*") if f.is_file()}


def test_a_name_of_somebody_else_is_not_taken_in(
    operator: Operator, acme: Publisher, publisher: Callable[[str], Publisher], dist: Path
) -> None:
    wheel = Made().write(dist)
    mallory = publisher("mallory")
    offer = mallory.offer(wheel)  # while it was free
    taken(operator, acme.offer(wheel))
    with pytest.raises(IndexFailed, match="is acme's since"):
        taken(operator, offer)
