"""Keys on disk: readable by their owner alone, never overwritten, and of one make."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from llama_marketplace.errors import KeyTrouble
from llama_marketplace.trust import keys
from llama_marketplace.trust.keys import KeyRing


@pytest.mark.skipif(os.name == "nt", reason="POSIX file modes")
def test_a_key_is_its_owners_alone(tmp_path: Path) -> None:
    keys.create(tmp_path / "ring" / "one.pem")
    assert stat.S_IMODE((tmp_path / "ring" / "one.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "ring").stat().st_mode) == 0o700


def test_both_halves_are_one_key(tmp_path: Path) -> None:
    made = keys.create(tmp_path / "one.pem")
    assert keys.load(tmp_path / "one.pem").public_key == made
    assert keys.load_public(tmp_path / "one.pub") == made
    assert b"PRIVATE" not in (tmp_path / "one.pub").read_bytes()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys.create(tmp_path / "one.pem")
    before = (tmp_path / "one.pem").read_bytes()
    with pytest.raises(KeyTrouble, match="already"):
        keys.create(tmp_path / "one.pem")
    assert (tmp_path / "one.pem").read_bytes() == before


def test_a_passphrase_is_asked_for_or_taken_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.PASSPHRASE, raising=False)
    file = tmp_path / "one.pem"
    made = keys.create(file, passphrase="swordfish")
    assert keys.load(file, lambda _: "swordfish").public_key == made
    with pytest.raises(KeyTrouble, match="needs a passphrase"):
        keys.load(file)
    with pytest.raises(KeyTrouble, match="cannot read the key"):
        keys.load(file, lambda _: "sturgeon")
    monkeypatch.setenv(keys.PASSPHRASE, "swordfish")
    assert keys.load(file).public_key == made


def test_keys_of_another_make_are_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    (tmp_path / "ec.pem").write_bytes(
        key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    )
    with pytest.raises(KeyTrouble, match="not an Ed25519 key"):
        keys.load(tmp_path / "ec.pem")
    (tmp_path / "junk.pem").write_text("junk")
    with pytest.raises(KeyTrouble, match="cannot read the key"):
        keys.load(tmp_path / "junk.pem")
    with pytest.raises(KeyTrouble, match="cannot read the key"):
        keys.load(tmp_path / "nothing.pem")


def test_a_ring_says_how_many_keys_are_missing(tmp_path: Path) -> None:
    made = [keys.create(tmp_path / "here" / "1.pem"), keys.create(tmp_path / "there" / "2.pem")]
    ids = [each.keyid for each in made]
    ring = KeyRing.open([tmp_path / "here"])
    with pytest.raises(KeyTrouble, match=r"'root' needs 2 of its keys, and .*here holds 1"):
        ring.for_role("root", ids, 2)
    both = KeyRing.open([tmp_path / "here", tmp_path / "there" / "2.pem"])
    assert len(both.for_role("root", ids, 2)) == 2
