"""An index on disk: whose a name is, what never changes, and that it can be made again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.errors import IndexFailed, KeyTrouble
from llama_marketplace.index import layout
from llama_marketplace.index.catalogue import matching
from llama_marketplace.index.record import Change
from llama_marketplace.publish import repository
from llama_marketplace.publish.repository import Repository, current_time
from llama_marketplace.sources import Source
from llama_marketplace.trust import keys, roles
from llama_marketplace.trust.keys import KeyRing
from operating import Operator, record, wheel

NAME = "llama-plugin-min-p"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def files_of(folder: Path) -> dict[str, str]:
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in folder.rglob("*")
        if file.is_file()
    }


def test_the_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    first = Operator(tmp_path)
    file = wheel(tmp_path / "dist")
    made = []
    for number in range(2):
        folder = tmp_path / f"again-{number}"
        publics = {
            name: [keys.load_public(first.keys / f"{name}.pub")]
            for name in (*roles.TOP, *roles.OWN)
        }
        index = Repository.create(folder, publics, NOON)
        index.add_publisher("acme", [keys.load_public(first.keys / "acme.pub")])
        index.add([record(file), record(name="llama-plugin-other")], [file])
        index.commit(first.ring)
        made.append(files_of(folder))
    assert made[0] == made[1]
    assert len(made[0]) > 15


def test_a_rebuild_of_what_is_right_changes_nothing(operator: Operator) -> None:
    operator.publish(record(), record(name="llama-plugin-other"))
    before = files_of(operator.folder)
    index = operator.open()
    index.derive_all()
    assert index.commit(operator.ring) == []
    assert files_of(operator.folder) == before


def test_a_rebuild_mends_pages_and_catalogue(operator: Operator) -> None:
    operator.publish(record())
    page = operator.folder / "simple" / NAME / "index.html"
    good = page.read_bytes()
    page.write_bytes(b"broken")
    index = operator.open()
    index.roles.set_targets("catalogue", {layout.catalogue_path(NAME): None})
    index.commit(operator.ring)
    index = operator.open()
    index.derive_all()
    assert "catalogue" in index.commit(operator.ring)
    assert page.read_bytes() == good
    shard = operator.open().roles.read_target("catalogue", layout.catalogue_path(NAME))
    assert shard is not None
    assert [name for name, _ in matching(BytesIO(shard))] == [NAME]


def test_a_rebuild_keeps_nothing_of_a_name_that_is_gone(operator: Operator) -> None:
    gone = "llama-plugin-min-q"  # of another shard
    operator.publish(record(), record(name=gone))
    index = operator.open()
    path = layout.catalogue_path(gone)
    line = index.roles.read_target("catalogue", path)
    assert line is not None
    # Its claim is taken away, and a copy of its line lies in a shard that is not its own.
    index.roles.set_targets("names", {layout.names_path(gone): None})
    index.roles.set_targets("catalogue", {"catalogue/stray.jsonl": line})
    index.commit(operator.ring)
    index = operator.open()
    index.derive_all()
    assert "catalogue" in index.commit(operator.ring)
    targets = operator.open().roles.role("catalogue").signed.targets
    assert list(targets) == [layout.catalogue_path(NAME)]
    assert gone not in (operator.folder / "simple" / "index.html").read_text()
    assert not (operator.folder / "simple" / gone / "index.html").exists()
    assert not (operator.folder / "simple" / gone / "index.json").exists()
    assert (operator.folder / "simple" / NAME / "index.json").is_file()


def test_a_version_never_changes(operator: Operator, tmp_path: Path) -> None:
    operator.publish(record(wheel(tmp_path / "one")))
    other = wheel(tmp_path / "two")
    other.write_bytes(other.read_bytes() + b"!")
    with pytest.raises(IndexFailed, match="published already, with other content"):
        operator.publish(record(other))


def test_a_version_gains_wheels_and_keeps_its_history(operator: Operator) -> None:
    operator.publish(record())
    index = operator.open()
    gone = Change(status="yanked", date=date(2026, 5, 1), reason="wrong")
    index.change_status("acme", NAME, "1.0.0", gone)
    index.commit(operator.ring)
    file = {
        "filename": "llama_plugin_min_p-1.0.0-py3-none-win_amd64.whl",
        "sha256": "b" * 64,
        "size": 9,
        "tags": ["py3-none-win_amd64"],
        "needs": {"os": ["windows"], "arch": ["x86_64"]},
    }
    operator.publish(record(files=[file]))
    (found,) = operator.open().records(NAME)
    assert [each.sha256[:1] for each in found.files][1] == "b"
    assert len(found.files) == 2
    assert found.status.status == "yanked"


def test_all_wheels_of_a_version_say_the_same_whenever_they_come(operator: Operator) -> None:
    operator.publish(record())
    mac = {
        "filename": "llama_plugin_min_p-1.0.0-py3-none-macosx_11_0_arm64.whl",
        "sha256": "c" * 64,
        "size": 9,
        "tags": ["py3-none-macosx_11_0_arm64"],
    }
    with pytest.raises(IndexFailed, match="is published already, with another permissions"):
        operator.publish(record(files=[mac], permissions=["network"]))
    with pytest.raises(IndexFailed, match="with another requires_core: >=0.1"):
        operator.publish(record(files=[mac], requires_core=">=0.2"))
    (found,) = operator.open().records(NAME)
    assert len(found.files) == 1


def test_what_suites_found_is_kept_for_every_core(operator: Operator) -> None:
    def found(core: str, passed: int) -> dict[str, Any]:
        suite = {"suite": "transform min-p", "date": "2026-05-01", "failed": 0}
        return {**suite, "core": core, "passed": passed}

    operator.publish(record(conformance=[found("0.1.0", 5)]))
    operator.publish(record(conformance=[found("0.2.0", 6)]))
    operator.publish(record(conformance=[found("0.2.0", 7)]))
    (one,) = operator.open().records(NAME)
    assert [(each.core, each.passed) for each in one.conformance] == [("0.1.0", 5), ("0.2.0", 7)]


def test_names_stay_whose_they_are(operator: Operator) -> None:
    operator.publish(record())
    index = operator.open()
    index.add_publisher("mallory", [keys.create(operator.keys / "mallory.pem")])
    index.commit(operator.ring)
    with pytest.raises(IndexFailed, match="acme's since"):
        operator.publish(record(publisher="mallory", version="2.0.0"))
    with pytest.raises(IndexFailed, match="plugin 'min-p' is llama-plugin-min-p of acme already"):
        operator.publish(record(name="llama-plugin-better", publisher="mallory", plugin="min-p"))
    with pytest.raises(IndexFailed, match="knows no publisher 'nobody'"):
        operator.publish(record(name="llama-plugin-new", publisher="nobody"))
    with pytest.raises(IndexFailed, match="is plugin 'min-p', not 'max-p'"):
        operator.publish(record(version="3.0.0", plugin="max-p"))


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("llama-plugin-minp", True),
        ("llama-plugin-min-pp", True),
        ("llama-plugin-rnin-p", True),
        ("llama-plugin-nim-p", False),
        ("llama-plugin-sparse-attention", False),
    ],
)
def test_a_name_that_could_be_taken_for_anothers_is_announced(
    operator: Operator, name: str, near: bool
) -> None:
    operator.publish(record())
    index = operator.open()
    index.add_publisher("mallory", [keys.create(operator.keys / "mallory.pem")])
    index.commit(operator.ring)
    warnings = operator.publish(record(name=name, publisher="mallory"))
    assert warnings == ([f"{name} could be taken for {NAME}"] if near else [])


@pytest.mark.parametrize("name", ["root", "timestamp", "catalogue", "names"])
def test_no_publisher_is_called_like_a_role(operator: Operator, name: str) -> None:
    with pytest.raises(IndexFailed, match="a word of the index itself"):
        operator.open().add_publisher(name, [keys.create(operator.keys / "x.pem")])


def test_a_publisher_signs_with_its_own_key(operator: Operator) -> None:
    (operator.keys / "acme.pem").unlink()
    with pytest.raises(KeyTrouble, match="'acme' needs 1 of its keys"):
        operator.publish(record())
    assert operator.open().records(NAME) == []


def test_after_its_key_was_replaced_the_old_one_signs_for_nothing(
    operator: Operator, serve: Any, source_of: Callable[..., Source]
) -> None:
    operator.publish(record())
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    assert source.releases(NAME)
    old = operator.keys.parent / "old.pem"
    (operator.keys / "acme.pem").rename(old)
    index = operator.open()
    new = keys.create(operator.keys / "acme-2.pem")
    index.roles.set_keys("acme", [new], 1, operator.ring)
    index.commit(operator.ring)
    index = operator.open()
    index.add([record(version="2.0.0")])
    places = [operator.keys / f"{name}.pem" for name in (*roles.TOP, *roles.OWN)]
    before = KeyRing.open([*places, old])
    with pytest.raises(KeyTrouble, match="'acme' needs 1 of its keys"):
        index.commit(before)
    operator.publish(record(version="1.1.0"))
    source.refresh()
    assert [each.version for each in source.releases(NAME)] == ["1.1.0", "1.0.0"]


@pytest.mark.parametrize("role", [*roles.TOP, *roles.OWN])
def test_readers_follow_new_keys_of_every_role(
    operator: Operator, serve: Any, source_of: Callable[..., Source], role: str
) -> None:
    operator.publish(record())
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    index = operator.open()
    index.roles.set_keys(role, [keys.create(operator.keys / "new.pem")], 1, operator.ring)
    index.commit(operator.ring)
    (operator.keys / f"{role}.pem").unlink()
    operator.publish(record(version="1.1.0"))
    source.refresh()
    assert source.releases(NAME)[0].version == "1.1.0"
    newcomer = source_of(source.url, operator.root, user="newcomer")
    assert newcomer.refresh().changed


class Killed(BaseException):
    """Ends what is under way, as a kill does: nothing catches it."""


def test_a_kill_at_any_write_of_publishing_leaves_old_or_new(
    operator: Operator, serve: Any, source_of: Callable[..., Source], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    operator.publish(record())
    file = wheel(tmp_path / "dist", version="1.1.0")
    url = serve(operator.folder)
    whole, step, seen = layout.write_whole, 0, set()
    while True:
        count = 0

        def write(place: Path, data: bytes, *, sync: bool = True, at: int = step) -> bool:
            nonlocal count
            count += 1
            if count > at:
                raise Killed
            return whole(place, data, sync=sync)

        with monkeypatch.context() as patched:
            patched.setattr(roles, "write_whole", write)
            patched.setattr(repository, "write_whole", write)
            try:
                operator.publish(record(file, version="1.1.0"), wheels=(file,))
                done = True
            except Killed:
                done = False
        source = source_of(url, operator.root, user=f"user-{step}")
        source.refresh()
        found = tuple(each.version for each in source.releases(NAME))
        assert found in {("1.0.0",), ("1.1.0", "1.0.0")}
        seen.add(found)
        if done:
            break
        step += 1
    assert len(seen) == 2
    assert step > 5
    assert found == ("1.1.0", "1.0.0")


def test_a_build_takes_its_time_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1777636800")
    assert current_time() == NOON
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "noon")
    with pytest.raises(IndexFailed, match="SOURCE_DATE_EPOCH='noon' is no time"):
        current_time()


def test_a_folder_that_is_no_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(IndexFailed, match="Is this the folder of an index"):
        Repository.open(tmp_path, NOON)
    (tmp_path / "file").touch()
    with pytest.raises(IndexFailed, match="is not empty"):
        Repository.create(tmp_path, {}, NOON)
