"""Keys: made strong, kept as digests, compared in constant time, read from safe files only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_core.errors import LlamaError
from llama_core.web import Key, Keyring, new_key
from llama_core.web.keys import bearer_secret

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX file modes")


def test_a_key_holds_256_bits_and_only_its_digest_is_kept():
    secret, key = new_key("mine", {"infer"})
    random = base64.urlsafe_b64decode(secret.removeprefix("llc_") + "=")
    assert len(random) * 8 == 256
    assert key.digest == hashlib.sha256(secret.encode()).hexdigest()
    assert new_key("mine", {"infer"})[0] != secret
    assert secret not in repr(key)
    assert key.digest not in repr(Keyring((key,)))


def test_every_digest_is_compared_wherever_the_match_is():
    made = [new_key(f"key-{n}", {"infer"}) for n in range(5)]
    ring = Keyring(tuple(key for _, key in made))
    called = []
    for secret, found in [(made[0][0], "key-0"), (made[4][0], "key-4"), ("wrong", None)]:
        called.clear()
        sys.setprofile(lambda frame, event, function: called.append(function))
        try:
            key = ring.match(secret.encode())
        finally:
            sys.setprofile(None)
        assert (key and key.name) == found
        assert called.count(hmac.compare_digest) == 2 * 5  # each call and its return


def test_a_key_file_is_private_holds_no_secret_and_reads_back(tmp_path):
    secret, key = new_key("mine", {"infer", "admin"})
    path = tmp_path / "keys.json"
    path.write_text("the old one")
    Keyring((key,)).save(path)
    assert Keyring.load(path) == Keyring((key,))
    assert Keyring.load(path).match(secret.encode()) == key
    assert secret not in path.read_text()
    assert json.loads(path.read_text())["keys"][0].keys() == {"name", "digest", "scopes", "created"}
    assert os.listdir(tmp_path) == ["keys.json"]
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o600


@posix_only
@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602, 0o666])
def test_a_key_file_that_others_can_open_is_refused_with_the_remedy(tmp_path, mode):
    path = tmp_path / "my keys.json"
    Keyring((new_key("mine", {"infer"})[1],)).save(path)
    path.chmod(mode)
    with pytest.raises(LlamaError, match=r"chmod 600 '.*my keys\.json'"):
        Keyring.load(path)
    path.chmod(0o640)
    assert Keyring.load(path)


def good(**changes):
    return {"name": "a", "digest": "0" * 64, "scopes": ["infer"], "created": "now", **changes}


@pytest.mark.parametrize(
    "content",
    [
        "",
        "SECRET",
        "[]",
        "null",
        '{"keys": 1}',
        '{"keys": ["SECRET"]}',
        "[" * 100_000,
        json.dumps({"keys": [good(name="SECRET SECRET")]}),
        json.dumps({"keys": [good(digest="SECRET")]}),
        json.dumps({"keys": [good(digest=5)]}),
        json.dumps({"keys": [good(scopes=["everything"])]}),
        json.dumps({"keys": [good(scopes=[])]}),
        json.dumps({"keys": [good(scopes="infer")]}),
        json.dumps({"keys": [good(scopes=[[]])]}),
        json.dumps({"keys": [good(), good()]}),
    ],
)
def test_a_broken_key_file_is_named_and_never_quoted(tmp_path, content):
    path = tmp_path / "keys.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(LlamaError, match=r"keys\.json") as caught:
        Keyring.load(path)
    assert "SECRET" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_a_missing_file_or_folder_is_one_line(tmp_path):
    with pytest.raises(LlamaError, match="cannot be read: No such file"):
        Keyring.load(tmp_path / "keys.json")
    with pytest.raises(LlamaError, match="cannot be written: No such file"):
        Keyring().save(tmp_path / "none" / "keys.json")


def test_a_save_that_fails_leaves_nothing_behind(tmp_path):
    (tmp_path / "keys.json").mkdir()
    with pytest.raises(LlamaError, match="cannot be written"):
        Keyring().save(tmp_path / "keys.json")
    assert os.listdir(tmp_path) == ["keys.json"]


def test_a_key_needs_a_plain_name_and_known_scopes():
    for name, scopes in [("", {"infer"}), ("a\nb", {"infer"}), ("a", set()), ("a", {"root"})]:
        with pytest.raises(LlamaError):
            Key(name, "0" * 64, frozenset(scopes), "now")


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=80), max_size=3))
def test_no_authorization_header_makes_the_parser_raise(values):
    secret = bearer_secret(values)
    assert secret is None or (len(values) == 1 and secret in values[0])


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.from_regex(rb"[A-Za-z0-9._~+/-]{1,512}=*", fullmatch=True))
def test_every_bearer_token_is_read_back(token):
    assert bearer_secret([b"Bearer " + token]) == token
    assert Keyring((new_key("a", {"infer"})[1],)).match(token) is None
