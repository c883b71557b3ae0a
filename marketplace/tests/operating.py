"""An index as its operator holds it, and wheels and records to put there."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from llama_marketplace.index.record import Record
from llama_marketplace.publish.repository import Repository
from llama_marketplace.trust import keys
from llama_marketplace.trust.keys import KeyRing
from llama_marketplace.trust.roles import OWN, TOP


class Operator:
    """An index, its keys, and a publisher `acme` that may publish there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "index"
        self.keys = folder / "keys"
        publics = {name: [keys.create(self.keys / f"{name}.pem")] for name in (*TOP, *OWN)}
        acme = keys.create(self.keys / "acme.pem")
        made = Repository.create(self.folder, publics, self.now())
        made.add_publisher("acme", [acme], verified=True)
        made.commit(self.ring)

    def now(self) -> datetime:
        return datetime.now(UTC)

    @property
    def ring(self) -> KeyRing:
        return KeyRing.open([self.keys])

    def open(self, now: datetime | None = None) -> Repository:
        return Repository.open(self.folder, now or self.now())

    def publish(self, *records: Record, wheels: tuple[Path, ...] = ()) -> list[str]:
        index = self.open()
        warnings = index.add(records, wheels)
        index.commit(self.ring)
        return warnings

    @property
    def root(self) -> str:
        return hashlib.sha256((self.folder / "metadata" / "1.root.json").read_bytes()).hexdigest()


def wheel(folder: Path, name: str = "llama-plugin-min-p", version: str = "1.0.0") -> Path:
    """A plugin's wheel that installs: a transform that does nothing."""
    package = name.replace("-", "_")
    plugin = name.removeprefix("llama-plugin-")
    info = f"{package}-{version}.dist-info"
    manifest = (
        f'name = "{plugin}"\nsummary = "The transform {plugin}"\n\n'
        f'[[provides]]\nkind = "transform"\nname = "{plugin}"\napi = 1\n'
    )
    code = (
        "from llama_core import hookimpl\n\n\n@hookimpl\n"
        "def llama_create_transform(name, options):\n"
        "    return lambda logits_NV, context: logits_NV\n"
    )
    metadata = (
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        f"Summary: The transform {plugin}\n"
        "License-Expression: MIT\nRequires-Python: >=3.11\nRequires-Dist: llama-core>=0.1\n"
        "Description-Content-Type: text/markdown\n\n# A transform\n"
    )
    files = {
        f"{package}/__init__.py": code,
        f"{package}/plugin.toml": manifest,
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[llama_core]\n{plugin} = {package}\n",
    }
    rows = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
        rows.append(f"{path},sha256={digest.decode()},{len(text.encode())}")
    files[f"{info}/RECORD"] = "\n".join([*rows, f"{info}/RECORD,,"]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / f"{package}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(out, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path, (2026, 1, 1, 0, 0, 0)), text)
    return out


def record(
    wheel: Path | None = None,
    *,
    name: str = "llama-plugin-min-p",
    version: str = "1.0.0",
    **more: Any,
) -> Record:
    """A record, of a wheel or of one that nobody needs."""
    data = wheel.read_bytes() if wheel else b"nothing"
    file = {
        "filename": f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
        "tags": ["py3-none-any"],
    }
    plugin = name.removeprefix("llama-plugin-")
    table = {
        "schema": 1,
        "name": name,
        "version": version,
        "plugin": plugin,
        "package": name.replace("-", "_"),
        "publisher": "acme",
        "summary": f"The transform {plugin}",
        "licence": "MIT",
        "requires_core": ">=0.1",
        "provides": [{"kind": "transform", "name": plugin, "api": 1}],
        "files": [file],
        "published": "2026-01-02T03:04:05Z",
        "history": [{"status": "active", "date": "2026-01-02"}],
    }
    return Record.model_validate(table | more)
