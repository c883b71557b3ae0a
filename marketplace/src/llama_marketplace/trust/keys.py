"""Signing keys: Ed25519, one file each, readable by their owner alone.

A folder of key files is a key ring; which key may sign for what is written in the metadata, so the
names of the files say nothing. Knows nothing of roles.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from llama_marketplace.errors import KeyTrouble

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from securesystemslib.signer import CryptoSigner, SSlibKey

PASSPHRASE = "LLAMA_CORE_MARKETPLACE_PASSPHRASE"  # noqa: S105 - the name of a variable
MAX_KEY_BYTES = 64 << 10
Ask = Callable[[Path], str]


def default_folder() -> Path:
    """Where keys lie where nothing else is said: beside the user's settings."""
    import platformdirs

    return Path(platformdirs.user_config_dir("llama-core", appauthor=False)) / "keys"


def create(file: Path, *, passphrase: str | None = None) -> SSlibKey:
    """Make a key; the public half lies beside it, in a file that may be given away."""
    from cryptography.hazmat.primitives import serialization as forms
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    encryption: forms.KeySerializationEncryption = forms.NoEncryption()
    if passphrase:
        encryption = forms.BestAvailableEncryption(passphrase.encode())
    secret = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, encryption)
    public = key.public_key().public_bytes(
        forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as out:
            out.write(secret)
            out.flush()
            os.fsync(out.fileno())
        file.with_suffix(".pub").write_bytes(public)
    except FileExistsError:
        raise KeyTrouble(f"there is a key {file} already", remedy="Give it another name.") from None
    except OSError as error:
        raise KeyTrouble(f"cannot write the key {file}: {error.strerror}") from error
    return _public(key)


def load(file: Path, ask: Ask | None = None) -> CryptoSigner:
    """The private key in a file; a passphrase comes from the environment, or is asked for."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.signer import CryptoSigner

    data = _read(file)
    try:
        if b"ENCRYPTED" in data.split(b"\n", 1)[0]:
            passphrase = os.environ.get(PASSPHRASE) or (ask(file) if ask else None)
            if not passphrase:
                raise KeyTrouble(f"{file} needs a passphrase", remedy=f"Set {PASSPHRASE}.")
            key = load_pem_private_key(data, passphrase.encode())
        else:
            key = load_pem_private_key(data, None)
    except (ValueError, TypeError) as error:
        raise KeyTrouble(f"cannot read the key {file}: {error}") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyTrouble(f"{file} is not an Ed25519 key", remedy="llama marketplace keys create")
    return CryptoSigner(key, _public(key))


def load_public(file: Path) -> SSlibKey:
    """The public key in a `.pub` file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.signer import SSlibKey

    try:
        key = load_pem_public_key(_read(file))
    except ValueError as error:
        raise KeyTrouble(f"{file} is not a public key: {error}") from None
    if not isinstance(key, Ed25519PublicKey):
        raise KeyTrouble(f"{file} is not an Ed25519 key", remedy="llama marketplace keys create")
    return SSlibKey.from_crypto(key)


class KeyRing:
    """The private keys at hand, by the name that metadata gives them."""

    def __init__(self, signers: Iterable[CryptoSigner], where: str) -> None:
        self._signers = {each.public_key.keyid: each for each in signers}
        self.where = where

    @classmethod
    def open(cls, places: Iterable[Path], ask: Ask | None = None) -> KeyRing:
        """Of key files, and of all that lie in a folder."""
        places = list(places)
        files: list[Path] = []
        for place in places:
            files += sorted(place.glob("*.pem")) if place.is_dir() else [place]
        where = ", ".join(map(str, places))
        return cls([load(file, ask) for file in files], where)

    def for_role(self, role: str, keyids: Iterable[str], threshold: int) -> list[CryptoSigner]:
        """Enough keys to sign for a role; an error says how many are missing."""
        found = [self._signers[keyid] for keyid in sorted(keyids) if keyid in self._signers]
        if len(found) < threshold:
            raise KeyTrouble(
                f"'{role}' needs {threshold} of its keys, and {self.where} holds {len(found)}",
                remedy="Name the folder that has them: --keys FOLDER",
            )
        return found

    def __contains__(self, keyid: str) -> bool:
        return keyid in self._signers


def _public(key: Ed25519PrivateKey) -> SSlibKey:
    from securesystemslib.signer import SSlibKey

    return SSlibKey.from_crypto(key.public_key())


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_KEY_BYTES)
    except OSError as error:
        raise KeyTrouble(f"cannot read the key {file}: {error.strerror}") from error
    return data
