"""What an index says of a name, read from a real server by a user who pinned its root."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from llama_marketplace.errors import IndexFailed, Untrusted
from llama_marketplace.index.record import Change
from llama_marketplace.sources import Source, find
from operating import Operator, record, wheel
from tuf.api.metadata import Metadata

Serve = Any  # the fixture of conftest
SourceOf = Callable[..., Source]


def test_a_published_wheel_is_found_and_fetched(
    operator: Operator, serve: Serve, source_of: SourceOf, tmp_path: Path
) -> None:
    file = wheel(tmp_path / "dist")
    operator.publish(record(file), wheels=(file,))
    source = source_of(serve(operator.folder), operator.root)
    assert source.refresh().changed
    (found,) = source.summaries(["MIN-P"])
    assert (found.name, found.publisher, found.verified) == ("llama-plugin-min-p", "acme", True)
    assert list(source.summaries(["nonsense"])) == []
    (release,) = source.releases("llama-plugin-min-p")
    assert release == record(file)
    counted: list[int] = []
    fetched = source.fetch(release.files[0], tmp_path / "here", counted.append)
    assert fetched.read_bytes() == file.read_bytes()
    assert sum(counted) == file.stat().st_size


def test_a_new_version_is_a_small_transfer(
    operator: Operator, serve: Serve, source_of: SourceOf
) -> None:
    operator.publish(record())
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    assert not source.refresh().changed
    operator.publish(record(version="1.1.0"))
    assert source.refresh().changed
    assert [each.version for each in source.releases("llama-plugin-min-p")] == ["1.1.0", "1.0.0"]


def test_reading_many_names_parses_what_they_share_once(
    operator: Operator, serve: Serve, source_of: SourceOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"llama-plugin-p{number}" for number in range(4)]
    operator.publish(*(record(name=each) for each in names), record(name="llama-plugin-p"))
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    source.releases(names[0])
    parsed: list[str] = []
    from_file = Metadata.from_file

    def counted(file: str, *more: Any) -> Metadata[Any]:
        parsed.append(file)
        return from_file(file, *more)

    monkeypatch.setattr(Metadata, "from_file", counted)
    for name in names:
        (release,) = source.releases(name)
        assert release.name == name
    assert parsed == []
    operator.publish(record(name=names[0], version="2.0.0"))
    source.refresh()
    assert [each.version for each in source.releases(names[0])] == ["2.0.0", "1.0.0"]


def test_offline_what_was_read_once_is_there(
    operator: Operator, serve: Serve, source_of: SourceOf, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    file = wheel(tmp_path / "dist")
    operator.publish(record(file), wheels=(file,))
    url = serve(operator.folder)
    online = source_of(url, operator.root)
    online.refresh()
    (release,) = online.releases("llama-plugin-min-p")
    online.fetch(release.files[0], tmp_path / "first")
    serve.stop()
    later = source_of(url, operator.root)
    done = later.refresh()
    assert done.offline
    assert not done.changed
    assert "cannot be reached" in caplog.text
    assert later.releases("llama-plugin-min-p") == (release,)
    assert later.fetch(release.files[0], tmp_path / "again").read_bytes() == file.read_bytes()


def test_what_was_never_read_is_said_to_be_unknown(operator: Operator, source_of: SourceOf) -> None:
    source = source_of("http://127.0.0.1:9/", operator.root)  # nobody listens there
    with pytest.raises(IndexFailed, match="cannot read"):
        source.refresh()
    with pytest.raises(IndexFailed, match="nothing is known.*indexes refresh"):
        list(source.summaries())
    with pytest.raises(IndexFailed, match="nothing is known.*indexes refresh"):
        source.releases("llama-plugin-min-p")


def test_when_the_timestamp_has_run_out_offline_search_goes_on_and_installing_waits(
    operator: Operator, serve: Serve, source_of: SourceOf
) -> None:
    operator.publish(record())
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    serve.stop()
    assert source.client is not None
    file = source.client.metadata / "timestamp.json"
    aged: Any = Metadata.from_file(str(file))  # as it will be in eight days
    aged.signed.expires = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    (signer,) = operator.ring.for_role("timestamp", aged.signatures, 1)
    aged.sign(signer)
    aged.to_file(str(file))
    later = source_of(source.url, operator.root)
    assert later.refresh().offline
    assert [each.name for each in later.summaries()] == ["llama-plugin-min-p"]
    with pytest.raises(Untrusted, match="no longer valid"):
        later.releases("llama-plugin-min-p")


def test_quarantine_outweighs_what_the_publisher_says(
    operator: Operator, serve: Serve, source_of: SourceOf
) -> None:
    operator.publish(record())
    index = operator.open()
    day = index.roles.now.date()
    index.decide(
        "llama-plugin-min-p", "1.0.0", Change(status="quarantined", date=day, reason="it mines")
    )
    index.commit(operator.ring)
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    (release,) = source.releases("llama-plugin-min-p")
    assert (release.status.status, release.status.reason) == ("quarantined", "it mines")
    (found,) = source.summaries()
    assert found.versions[0].status == "quarantined"
    page = operator.folder / "simple" / "llama-plugin-min-p" / "index.html"
    assert ".whl" not in page.read_text()


def test_two_indexes_are_never_mixed_by_version(
    tmp_path: Path, serve: Serve, source_of: SourceOf
) -> None:
    first, second = Operator(tmp_path / "1"), Operator(tmp_path / "2")
    first.publish(record(version="1.0.0"))
    second.publish(record(version="9.0.0"), record(name="llama-plugin-other"))
    sources = [
        source_of(serve(each.folder), each.root, user=name, name=name)
        for name, each in (("first", first), ("second", second))
    ]
    for each in sources:
        each.refresh()
    source, releases = find("llama-plugin-min-p", sources)
    assert (source.name, [each.version for each in releases]) == ("first", ["1.0.0"])
    assert find("llama-plugin-other", sources)[0].name == "second"
    with pytest.raises(IndexFailed, match="did you mean 'llama-plugin-other'"):
        find("llama-plugin-othr", sources)


def test_a_namespace_is_asked_of_no_other_index(
    tmp_path: Path, serve: Serve, source_of: SourceOf
) -> None:
    public, private = Operator(tmp_path / "1"), Operator(tmp_path / "2")
    public.publish(record(name="llama-plugin-corp-secret", version="9.0.0"))
    sources = [
        source_of(serve(public.folder), public.root, user="a", name="public"),
        source_of(
            serve(private.folder), private.root, user="b", name="corp",
            namespaces=("llama-plugin-corp-*",),
        ),
    ]  # fmt: skip
    for each in sources:
        each.refresh()
    with pytest.raises(IndexFailed, match="in corp"):
        find("llama-plugin-corp-secret", sources)


def test_a_name_that_changes_hands_is_refused(
    tmp_path: Path, serve: Serve, source_of: SourceOf
) -> None:
    """The operator itself gives a name away: who had it before is pinned with each user."""
    operator = Operator(tmp_path)
    operator.publish(record())
    source = source_of(serve(operator.folder), operator.root)
    source.refresh()
    source.releases("llama-plugin-min-p")
    from llama_marketplace.trust import keys

    index = operator.open()
    index.add_publisher("mallory", [keys.create(operator.keys / "mallory.pem")])
    claims = index._shard("llama-plugin-min-p")
    stolen = claims["llama-plugin-min-p"].model_copy(update={"publisher": "mallory"})
    claims["llama-plugin-min-p"] = stolen
    index._put(record(publisher="mallory"))
    index.commit(operator.ring)
    source.refresh()
    with pytest.raises(Untrusted, match=r"was published by acme.* now says mallory"):
        source.releases("llama-plugin-min-p")
