"""The index for plain pip and uv: pages as PEP 503 has them, and PEP 691 and 700 in JSON; with the
digests of metadata that lies beside wheels, as PEP 658 and 714 have it.

Not signed, since pip checks no signatures: the digests are those of the records. What is
quarantined is left out, what is yanked says why. Knows records; writes no files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from packaging.version import Version

from llama_marketplace.index.record import File, Record

HTML = "index.html"
JSON = "index.json"
METADATA = ".metadata"  # behind the name of a wheel: its METADATA, to resolve without the wheel
JSON_TYPE = "application/vnd.pypi.simple.v1+json"
_SAID = ("core-metadata", "dist-info-metadata")  # the second is what older installers look for
_HEAD = '<!DOCTYPE html>\n<html><head><meta charset="utf-8">\
<meta name="pypi:repository-version" content="1.1"><title>{title}</title></head>\n<body>\n'


def root_pages(names: Iterable[str]) -> dict[str, bytes]:
    """The list of all names, by file name."""
    names = sorted(names)
    rows = "".join(f'<a href="{name}/">{name}</a><br>\n' for name in names)
    table = {"meta": {"api-version": "1.1"}, "projects": [{"name": name} for name in names]}
    return {
        HTML: (_HEAD.format(title="Simple index") + rows + "</body></html>\n").encode(),
        JSON: _json(table),
    }


def project_pages(
    name: str, records: Sequence[Record], metadata: Mapping[str, str]
) -> dict[str, bytes]:
    """The pages of one name. `metadata` has the digests of what lies beside wheels, by path."""
    shown = [each for each in records if each.status.status != "quarantined"]
    shown.sort(key=lambda each: Version(each.version))
    rows, files = "", []
    for record in shown:
        yanked = record.status.reason if record.status.status == "yanked" else None
        for file in record.files:
            beside = metadata.get(file.path)
            rows += _row(record, file, yanked, beside)
            files.append(_entry(record, file, yanked, beside))
    table: dict[str, Any] = {
        "meta": {"api-version": "1.1"},
        "name": name,
        "versions": [each.version for each in shown],
        "files": files,
    }
    return {
        HTML: (_HEAD.format(title=escape(name)) + rows + "</body></html>\n").encode(),
        JSON: _json(table),
    }


def _row(record: Record, file: File, yanked: str | None, metadata: str | None) -> str:
    wanted = f' data-requires-python="{escape(record.requires_python)}"'
    more = wanted if record.requires_python else ""
    if yanked is not None:
        more += f' data-yanked="{escape(yanked)}"'
    for word in _SAID if metadata is not None else ():
        more += f' data-{word}="sha256={metadata}"'
    href = f"{_address(file)}#sha256={file.sha256}"
    return f'<a href="{escape(href)}"{more}>{escape(file.filename)}</a><br>\n'


def _entry(record: Record, file: File, yanked: str | None, metadata: str | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "filename": file.filename,
        "url": _address(file),
        "hashes": {"sha256": file.sha256},
        "size": file.size,
        "upload-time": record.published.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "yanked": yanked or False,
    }
    if record.requires_python:
        entry["requires-python"] = record.requires_python
    if metadata is not None:
        entry |= {word: {"sha256": metadata} for word in _SAID}
    return entry


def _address(file: File) -> str:
    return file.url or f"../../{file.path}"


def _json(table: Mapping[str, Any]) -> bytes:
    text = json.dumps(table, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return text.encode() + b"\n"
