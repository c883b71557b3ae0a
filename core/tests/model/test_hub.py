"""Pulling from a hub: what goes right, and every way in which it goes wrong."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core import __version__
from llama_core.model.hub import (
    HubError,
    HubSettings,
    list_models,
    parse_reference,
    pull,
    pulled,
    remove_model,
    show_model,
)
from llama_core.model.hub.choose import choose_files
from llama_core.model.hub.reference import is_safe_name

from .hubserver import COMMIT, Hub, serving, sha256

FILES = {
    "config.json": b'{"model_type": "llama"}',
    "model.safetensors": bytes(range(256)) * 5000,
    "tokenizer.json": b"{}",
    "README.md": b"# read me",
    "modeling_tiny.py": b"raise SystemExit('never')",
    "pytorch_model.bin": b"pickle",
}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving(Hub(dict(FILES))) as running:
        yield running


def at(hub: Hub, cache: Path, **more: object) -> HubSettings:
    return HubSettings(hub.url, cache, **more)  # type: ignore[arg-type]


def no_sleep(_: float) -> None:
    pass


def test_a_model_is_pulled_once_and_only_what_belongs_to_it(hub: Hub, tmp_path: Path) -> None:
    heard: list[tuple[str, int, int]] = []
    path = pull("hf:org/tiny", at(hub, tmp_path), progress=lambda *a: heard.append(a))
    names = {p.name for p in path.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json"}
    for name in names:
        assert (path / name).read_bytes() == FILES[name]
    size = len(FILES["model.safetensors"])
    assert ("model.safetensors", size, size) in heard
    asked = len(hub.asked)
    assert pull("hf:org/tiny", at(hub, tmp_path)) == path
    assert len(hub.asked) == asked + 1  # what there is, and nothing more


def test_the_hub_is_told_who_asks_and_nothing_of_the_machine(hub: Hub, tmp_path: Path) -> None:
    pull("hf:org/tiny", at(hub, tmp_path))
    assert hub.agents == {f"llama-core/{__version__}"}


def test_the_cache_is_the_one_of_huggingface_hub(hub: Hub, tmp_path: Path) -> None:
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    path = pull("org/tiny", at(hub, tmp_path))
    found = try_to_load_from_cache("org/tiny", "config.json", cache_dir=tmp_path)
    assert found == str(path / "config.json")
    info = scan_cache_dir(tmp_path)
    assert not info.warnings
    assert [repo.repo_id for repo in info.repos] == ["org/tiny"]
    assert (path / "model.safetensors").resolve().name == sha256(FILES["model.safetensors"])


def test_cut_connections_are_resumed_where_they_were_cut(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000, 400_000]
    path = pull("hf:org/tiny", at(hub, tmp_path), sleep=no_sleep)
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    ranges = [r for asked, r, _ in hub.asked if asked.endswith("model.safetensors")]
    assert ranges == [None, "bytes=300000-", "bytes=700000-"]


def test_an_attempt_that_was_given_up_is_gone_on_with(hub: Hub, tmp_path: Path) -> None:
    hub.cuts = [300_000] + [0] * 10
    with pytest.raises(HubError, match="beyond byte 300000 of 1280000") as caught:
        pull("hf:org/tiny", at(hub, tmp_path), sleep=no_sleep)
    assert "llama pull hf:org/tiny" in str(caught.value)
    hub.cuts, hub.asked = [], []
    path = pull("hf:org/tiny", at(hub, tmp_path))
    assert ("bytes=300000-") in [r for _, r, _ in hub.asked]
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_server_that_ignores_ranges_is_read_from_the_start(hub: Hub, tmp_path: Path) -> None:
    hub.cuts, hub.ignore_ranges = [300_000], True
    path = pull("hf:org/tiny", at(hub, tmp_path), sleep=no_sleep)
    assert (path / "model.safetensors").read_bytes() == FILES["model.safetensors"]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_digest_is_thrown_away(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.sent_instead[name] = bytes(len(FILES[name]))
    with pytest.raises(HubError, match="has the digest"):
        pull("hf:org/tiny", at(hub, tmp_path), sleep=no_sleep)
    assert not list(tmp_path.rglob("*.incomplete"))
    assert not [p for p in tmp_path.rglob("snapshots/*/*") if p.name == name]
    with pytest.raises(HubError, match="was not pulled"):
        pulled("hf:org/tiny", at(hub, tmp_path))


def test_endless_data_stops_at_the_size_that_was_promised(hub: Hub, tmp_path: Path) -> None:
    hub.sent_instead["model.safetensors"] = FILES["model.safetensors"] + b"x" * 5_000_000
    with pytest.raises(HubError, match="sends more"):
        pull("hf:org/tiny", at(hub, tmp_path), sleep=no_sleep)
    assert all(p.stat().st_size <= 1_280_000 for p in tmp_path.rglob("*") if p.is_file())


def test_gated_models_ask_for_a_token(hub: Hub, tmp_path: Path) -> None:
    hub.token = "hf_secret"
    with pytest.raises(HubError, match=r"granted access.*HF_TOKEN") as caught:
        pull("hf:org/tiny", at(hub, tmp_path))
    settings = at(hub, tmp_path, token="hf_secret")
    assert "hf_secret" not in repr(settings)
    assert pull("hf:org/tiny", settings).is_dir()
    assert "hf_secret" not in str(caught.value)
    assert all(b"hf_secret" not in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    ("status", "headers", "says"),
    [
        (401, {}, "does not exist, or is private.*HF_TOKEN"),
        (403, {}, "granted access"),
        (404, {"X-Error-Code": "RepoNotFound"}, "does not exist"),
        (429, {"Retry-After": "17"}, "too many requests.*in 17 seconds"),
        (500, {}, "cannot give hf:org/tiny"),
    ],
)
def test_what_the_hub_answers_is_explained(
    hub: Hub, tmp_path: Path, status: int, headers: dict[str, str], says: str
) -> None:
    hub.refuse["/revision/main"] = (status, headers)
    with pytest.raises(HubError, match=says):
        pull("hf:org/tiny", at(hub, tmp_path))
    assert not list(tmp_path.rglob("blobs/*"))


def test_a_file_may_be_had_after_waiting_as_long_as_was_asked(hub: Hub, tmp_path: Path) -> None:
    hub.refuse["model.safetensors"] = (429, {"Retry-After": "7"})
    hub.refuse_times = 2
    waited: list[float] = []
    assert pull("hf:org/tiny", at(hub, tmp_path), sleep=waited.append).is_dir()
    assert waited == [7, 7]
    hub.refuse = {"tokenizer.json": (429, {"Retry-After": "999999999"})}
    hub.refuse_times = 1
    with pytest.raises(HubError, match="asks to wait 999999999 seconds"):
        pull("hf:org/tiny", at(hub, tmp_path / "other"), sleep=waited.append)


def test_a_file_that_is_gone_or_forbidden_is_explained(hub: Hub, tmp_path: Path) -> None:
    for status, code, says in ((404, "EntryNotFound", "no longer has"), (403, "", "granted")):
        hub.refuse["model.safetensors"] = (status, {"X-Error-Code": code})
        with pytest.raises(HubError, match=says):
            pull("hf:org/tiny", at(hub, tmp_path))


@pytest.mark.parametrize(
    "name",
    ["../../evil", "/etc/evil", "a/../../b", "c:\\evil", "a\\..\\b", "evil\n", "a//b", "nul. ", ""],
)
def test_hostile_file_names_are_refused(hub: Hub, tmp_path: Path, name: str) -> None:
    hub.names["config.json"] = name
    with pytest.raises(HubError, match="not safe"):
        pull("hf:org/tiny", at(hub, tmp_path / "cache"))
    assert {p.name for p in tmp_path.iterdir()} <= {"cache"}
    assert not list((tmp_path / "cache").rglob("*"))


@pytest.mark.parametrize("commit", ["../../x", "main", "", "A" * 40])
def test_a_commit_that_is_none_is_refused(hub: Hub, tmp_path: Path, commit: str) -> None:
    hub.commit = commit
    with pytest.raises(HubError, match="no valid commit"):
        pull("hf:org/tiny", at(hub, tmp_path))


def test_unknown_revisions_and_unreachable_hubs(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(HubError, match="no such revision"):
        pull("hf:org/tiny@nope", at(hub, tmp_path))
    assert pull("hf:org/tiny@v1", at(hub, tmp_path)).name == COMMIT
    nowhere = HubSettings("http://127.0.0.1:9", tmp_path)
    with pytest.raises(HubError, match=r"cannot reach http://127.0.0.1:9.*HF_HUB_OFFLINE"):
        pull("hf:org/tiny", nowhere)


def test_offline_nothing_is_asked(hub: Hub, tmp_path: Path) -> None:
    offline = at(hub, tmp_path, offline=True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE"):
        pull("hf:org/tiny", offline)
    path = pull("hf:org/tiny", at(hub, tmp_path))
    hub.asked.clear()
    assert pull("hf:org/tiny", offline) == path == pulled("hf:org/tiny", offline)
    assert hub.asked == []


def test_list_show_and_remove(hub: Hub, tmp_path: Path) -> None:
    settings = at(hub, tmp_path)
    assert list_models(settings) == []
    path = pull("hf:org/tiny", settings)
    (one,) = list_models(settings)
    assert (one.name, one.path, one.revision) == ("hf:org/tiny", path, COMMIT)
    assert one == show_model(parse_reference("hf:org/tiny"), settings)
    assert one.to_dict()["bytes"] == one.num_bytes > 1_280_000
    with pytest.raises(HubError, match="Did you mean 'hf:org/tiny'"):
        show_model(parse_reference("hf:org/tini"), settings)
    assert remove_model(parse_reference("hf:org/tiny"), settings) >= 1_280_000
    assert list_models(settings) == []
    assert not (tmp_path / "models--org--tiny").exists()
    with pytest.raises(HubError, match="was not pulled"):
        remove_model(parse_reference("hf:org/tiny"), settings)


def test_a_full_disk_leaves_what_can_be_resumed(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloading = import_module("llama_core.model.hub.download")
    real = downloading._read

    def full(out: object, *rest: object) -> Iterator[int]:
        for have in real(out, *rest):
            yield have
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(downloading, "_read", full)
    with pytest.raises(HubError, match=r"No space left on device.*HF_HUB_CACHE"):
        pull("hf:org/tiny", at(hub, tmp_path))
    with pytest.raises(HubError, match="was not pulled"):
        pulled("hf:org/tiny", at(hub, tmp_path))
    monkeypatch.undo()
    assert pull("hf:org/tiny", at(hub, tmp_path)).is_dir()


def test_a_disk_that_is_full_when_files_are_put_in_place(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def half(source: Path, place: Path) -> None:
        place.write_bytes(source.read_bytes()[:7])
        full()

    monkeypatch.setattr(Path, "symlink_to", full)
    monkeypatch.setattr(shutil, "copyfile", half)
    with pytest.raises(HubError, match=r"cannot write config.json .*No space left on device"):
        pull("hf:org/tiny", at(hub, tmp_path))
    assert not [p for p in tmp_path.rglob("snapshots/**/*") if p.is_file()]
    monkeypatch.undo()
    path = pull("hf:org/tiny", at(hub, tmp_path))
    assert (path / "config.json").read_bytes() == FILES["config.json"]
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(HubError, match=r"cannot write v1 .*No space left on device"):
        pull("hf:org/tiny@v1", at(hub, tmp_path))


def test_too_little_space_is_said_before(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil
    from collections import namedtuple

    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1))
    with pytest.raises(HubError, match="needs"):
        pull("hf:org/tiny", at(hub, tmp_path))
    assert all("resolve" not in asked for asked, _, _ in hub.asked)


GGUFS = ["a-Q4_K_M.gguf", "a-Q4_0.gguf", "a-Q8_0.gguf", "README.md"]
SPLIT = [f"big-Q4_0-{n:05}-of-00003.gguf" for n in (1, 2, 3)]


def test_files_are_chosen_by_name_part_or_kind() -> None:
    def chosen(names: list[str], file: str | None = None) -> list[str]:
        return choose_files(names, parse_reference("o/n" + (f":{file}" if file else "")))

    assert chosen(GGUFS, "Q4_K_M") == chosen(GGUFS, "q4_k_m") == ["a-Q4_K_M.gguf"]
    assert chosen(GGUFS, "a-Q8_0.gguf") == ["a-Q8_0.gguf"]
    assert chosen(["one.gguf", "mmproj.gguf"]) == ["one.gguf"]
    assert chosen(SPLIT) == SPLIT == chosen([*SPLIT, *GGUFS], SPLIT[0])
    assert chosen(["consolidated.safetensors", "model.safetensors"]) == ["model.safetensors"]
    with pytest.raises(HubError, match=r"holds 3 GGUF models.*llama pull hf:o/n:Q4_K_M"):
        chosen(GGUFS)
    with pytest.raises(HubError, match="fits 2 files"):
        chosen(GGUFS, "Q4")
    with pytest.raises(HubError, match=r"Did you mean 'a-Q8_0\.gguf'"):
        chosen(GGUFS, "a-Q8_1.gguf")
    with pytest.raises(HubError, match="missing"):
        chosen(SPLIT[:2])
    with pytest.raises(HubError, match="pickle"):
        chosen(["pytorch_model.bin", "config.json"])
    with pytest.raises(HubError, match="neither"):
        chosen(["README.md"])


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_stored\n")
    env = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://here/", "HF_HUB_OFFLINE": "1"}
    found = HubSettings.from_environment(env)
    assert found == HubSettings("http://here", tmp_path / "hub", "hf_stored", True)
    named = HubSettings.from_environment(env | {"HF_TOKEN": "hf_env", "HF_HUB_CACHE": "/c"})
    assert (named.token, named.cache) == ("hf_env", Path("/c"))


@pytest.mark.parametrize("address", ["nonsense", "http://x:99999", "http://[::1", "ftp://x"])
def test_an_address_that_is_none_is_not_asked(tmp_path: Path, address: str) -> None:
    with pytest.raises(HubError, match="that is no URL") as caught:
        pull("hf:org/tiny", HubSettings(address, tmp_path))
    assert caught.value.remedy is not None
    assert "HF_ENDPOINT" in caught.value.remedy


@pytest.mark.parametrize("text", ["", "hf:", "a/b/c", "../x", "a/..", "o/n:../x", "-a/b", "a--b/c"])
def test_references_that_name_nothing(text: str) -> None:
    with pytest.raises(HubError, match="does not name a model"):
        parse_reference(text)


@settings(derandomize=True, max_examples=2000, deadline=None, database=None)
@given(st.text(alphabet="ab./\\: ~\0\n-é", max_size=12))
def test_a_safe_name_stays_inside(name: str) -> None:
    if is_safe_name(name):
        root = Path("/tmp/of/it")
        inside = (root / name).resolve()
        assert inside.is_relative_to(root)
        assert inside != root
