"""Making wheels byte by byte: honest ones, and what somebody would do to one."""

from __future__ import annotations

import base64
import hashlib
import io
import stat
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

SOURCE = """
from llama_core import hookimpl
import numpy as np

class Rhyme:
    def __call__(self, logits_NV, context):
        return np.asarray(logits_NV)

@hookimpl
def llama_create_transform(name, options):
    return Rhyme()
"""
MANIFEST = """
name = "{plugin}"
summary = "Keeps every token"
{extra}
[[provides]]
kind = "transform"
name = "{plugin}"
api = 1
"""


@dataclass
class Made:
    """A wheel in the making; every part can be made wrong before it is written."""

    plugin: str = "rhyme"
    version: str = "1.0"
    requires: Iterable[str] = ("llama-core>=0.1",)
    tag: str = "py3-none-any"
    dist: str = ""
    manifest_extra: str = ""  # lines of plugin.toml before its tables
    source: str = SOURCE
    files: dict[str, bytes] = field(default_factory=dict)  # more, or others, than there would be
    without: tuple[str, ...] = ()
    record: Callable[[list[str]], list[str]] = lambda lines: lines
    metadata: Callable[[str], str] = lambda text: text
    wheel: Callable[[str], str] = lambda text: text
    filename: str = ""
    late: Mapping[str, bytes] = field(default_factory=dict)  # put in after RECORD was made
    infos: Callable[[zipfile.ZipInfo], None] = lambda info: None
    archive: Callable[[bytes], bytes] = lambda data: data

    @property
    def name(self) -> str:
        return self.dist or f"llama-plugin-{self.plugin}"

    @property
    def package(self) -> str:
        return f"llama_plugin_{self.plugin.replace('-', '_')}"

    @property
    def info(self) -> str:
        return f"{self.name.replace('-', '_')}-{self.version}.dist-info"

    def content(self) -> dict[str, bytes]:
        metadata = [f"Metadata-Version: 2.3\nName: {self.name}\nVersion: {self.version}"]
        metadata += ["Summary: Keeps every token", "License-Expression: MIT"]
        metadata += [f"Requires-Dist: {each}" for each in self.requires]
        files = {
            f"{self.package}/__init__.py": self.source.encode(),
            f"{self.package}/plugin.toml": MANIFEST.format(
                plugin=self.plugin, extra=self.manifest_extra
            ).encode(),
            f"{self.info}/METADATA": self.metadata("\n".join(metadata) + "\n\n# Rhyme\n").encode(),
            f"{self.info}/WHEEL": self.wheel(
                f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {self.tag}\n"
            ).encode(),
            f"{self.info}/entry_points.txt": (
                f"[llama_core]\n{self.plugin} = {self.package}\n".encode()
            ),
        }
        files |= self.files
        return {path: data for path, data in files.items() if path not in self.without}

    def write(self, folder: Path) -> Path:
        files = self.content()
        path = f"{self.info}/RECORD"
        lines = [f"{name},{digest(data)},{len(data)}" for name, data in files.items()]
        if path not in self.without:
            files[path] = ("\n".join(self.record([*lines, f"{path},,"])) + "\n").encode()
        files |= self.late
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                info = zipfile.ZipInfo(name)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = (stat.S_IFREG | 0o644) << 16
                self.infos(info)
                archive.writestr(info, data)
        stem = self.name.replace("-", "_")
        file = folder / (self.filename or f"{stem}-{self.version}-{self.tag}.whl")
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(self.archive(out.getvalue()))
        return file


def digest(data: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
