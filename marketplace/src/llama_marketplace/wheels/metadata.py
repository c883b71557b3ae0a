"""What a wheel says of itself: its file name, METADATA, WHEEL, RECORD and entry points.

Reads and compares; what a plugin may contain is not decided here. Nothing is imported and nothing
of a package is run.
"""

from __future__ import annotations

import base64
import binascii
import configparser
import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.metadata import RawMetadata, parse_email
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from llama_marketplace.wheels.archive import Archive, Content
from llama_marketplace.wheels.refusal import WheelRefused, shown

MAX_METADATA_BYTES = 2 << 20  # the README is in it
MAX_RECORD_BYTES = 16 << 20
MAX_SMALL_BYTES = 64 << 10
MAX_REQUIREMENTS = 256
# Written beside it by tools that sign; they cannot list themselves.
_UNLISTED = ("RECORD", "RECORD.jws", "RECORD.p7s")


@dataclass(frozen=True, slots=True)
class Metadata:
    """The facts, each checked against the others."""

    name: str  # canonical: small letters, hyphens
    version: str
    tags: tuple[str, ...]  # as in "py3-none-any"
    info: str  # its folder of metadata in the archive
    fields: RawMetadata
    requires_python: str
    requires: tuple[Requirement, ...]
    entry_points: Mapping[str, Mapping[str, str]]  # group -> name -> value


def read(archive: Archive) -> Metadata:
    """Everything but RECORD."""
    wheel = archive.wheel
    try:
        name, version, _, tags = parse_wheel_filename(wheel)
    except (InvalidWheelFilename, InvalidVersion) as error:
        why = f"its file name is not that of a wheel: {error}"
        raise WheelRefused(wheel, "filename", why) from error
    info = _folder(archive, name, version)
    fields = _fields(archive, info)
    said = fields.get("name", ""), fields.get("version", "")
    if canonicalize_name(said[0]) != name or not _same_version(said[1], version):
        why = f"METADATA says {shown(' '.join(said))}, and its file name '{name} {version}'"
        raise WheelRefused(wheel, "metadata_mismatch", why)
    _check_wheel_file(archive, info, {str(tag) for tag in tags})
    return Metadata(
        name=name,
        version=str(version),
        tags=tuple(sorted(str(tag) for tag in tags)),
        info=info,
        fields=fields,
        requires_python=_python(wheel, fields),
        requires=_requirements(wheel, fields),
        entry_points=_entry_points(archive, info),
    )


def check_record(archive: Archive, info: str, contents: Mapping[str, Content]) -> None:
    """RECORD lists every file, with its digest and size, and nothing else."""
    text = _text(archive, f"{info}/RECORD", MAX_RECORD_BYTES, "record_missing")
    listed: set[str] = set()
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise WheelRefused(archive.wheel, "record_invalid", f"RECORD: {error}") from error
    for row in rows:
        if len(row) != 3 or row[0] in listed:
            why = f"RECORD has a line twice or one that is not path, digest, size: {shown(row)}"
            raise WheelRefused(archive.wheel, "record_invalid", why)
        path, digest, size = row
        listed.add(path)
        if path in (f"{info}/{each}" for each in _UNLISTED):
            continue
        if path not in contents:
            why = f"RECORD lists {shown(path)}, which is not there"
            raise WheelRefused(archive.wheel, "record_mismatch", why)
        _check_digest(archive, path, digest, size, contents[path])
    for path in contents:
        if path not in listed and path not in (f"{info}/{each}" for each in _UNLISTED):
            why = f"RECORD does not list {shown(path)}"
            raise WheelRefused(archive.wheel, "record_mismatch", why, remedy="Build it anew.")


def _check_digest(archive: Archive, path: str, digest: str, size: str, content: Content) -> None:
    kind, _, value = digest.partition("=")
    if kind != "sha256":
        why = f"RECORD has no SHA-256 of {shown(path)}"
        raise WheelRefused(archive.wheel, "record_invalid", why)
    try:
        told = base64.b64decode(value + "=" * (-len(value) % 4), b"-_", validate=True).hex()
    except (binascii.Error, ValueError):
        told = ""
    if told != content.sha256 or (size and size != str(content.size)):
        why = f"{shown(path)} is not what RECORD says: it was changed after the wheel was built"
        raise WheelRefused(archive.wheel, "record_mismatch", why, remedy="Build it anew.")


def _folder(archive: Archive, name: str, version: Version) -> str:
    """The one `.dist-info` at the top, which must bear the wheel's own name."""
    tops = {each.split("/")[0] for each in archive.names if "/" in each}
    found = sorted(top for top in tops if top.lower().endswith(".dist-info"))
    if len(found) != 1:
        why = f"it has {len(found)} folders of metadata (.dist-info), and a wheel has one"
        raise WheelRefused(archive.wheel, "metadata_missing", why)
    said, _, its_version = found[0].removesuffix(".dist-info").partition("-")
    if canonicalize_name(said) != name or not _same_version(its_version, version):
        why = f"its metadata lies in {shown(found[0])}, which is not its file name's"
        raise WheelRefused(archive.wheel, "metadata_mismatch", why)
    return found[0]


def _fields(archive: Archive, info: str) -> RawMetadata:
    text = _text(archive, f"{info}/METADATA", MAX_METADATA_BYTES, "metadata_missing")
    fields, unread = parse_email(text)
    wrong = [key for key in ("name", "version", "requires-python") if key in unread]
    wrong += [key for key in ("name", "version") if key not in fields]
    # Simpler readers take lines that stand behind a broken one, where the parser sees text.
    header = re.split(r"\r?\n\r?\n", text, maxsplit=1)[0]
    lines = [key.lower() for key in re.findall(r"^(Name|Version) *:", header, re.M | re.I)]
    wrong += [key for key in ("name", "version") if lines.count(key) != 1]
    if wrong:
        why = f"METADATA has no single {wrong[0]}"
        raise WheelRefused(archive.wheel, "metadata_invalid", why)
    return fields


def _check_wheel_file(archive: Archive, info: str, tags: set[str]) -> None:
    text = _text(archive, f"{info}/WHEEL", MAX_SMALL_BYTES, "metadata_missing")
    said = re.findall(r"^([\w-]+): *(.*?) *$", text, re.MULTILINE)
    version = next((value for key, value in said if key == "Wheel-Version"), "")
    if not re.fullmatch(r"1\.\d+", version):
        why = f"it is a wheel of format {shown(version)}, and 1.0 is known here"
        raise WheelRefused(archive.wheel, "metadata_invalid", why)
    its_tags = {value for key, value in said if key == "Tag"}
    if its_tags != tags:
        why = f"its file name says {', '.join(sorted(tags))}, WHEEL {', '.join(sorted(its_tags))}"
        raise WheelRefused(archive.wheel, "metadata_mismatch", why, remedy="Do not rename wheels.")


def _requirements(wheel: str, fields: RawMetadata) -> tuple[Requirement, ...]:
    lines = fields.get("requires_dist", [])
    if len(lines) > MAX_REQUIREMENTS:
        why = f"it has {len(lines)} requirements, {MAX_REQUIREMENTS} at most"
        raise WheelRefused(wheel, "too_many", why)
    requires = []
    for line in lines:
        try:
            requires.append(Requirement(line))
        except InvalidRequirement as error:
            why = f"its requirement {shown(line)} cannot be read"
            raise WheelRefused(wheel, "metadata_invalid", why) from error
    for each in requires:
        if each.url is not None:
            # What lies at an address has no version and no digest, and building it runs its code.
            why = f"it requires {each.name} from an address, {shown(each.url)}, not from an index"
            raise WheelRefused(wheel, "requirement_by_url", why, remedy="Require a version range.")
    return tuple(requires)


def _python(wheel: str, fields: RawMetadata) -> str:
    said = fields.get("requires_python", "")
    try:
        return str(SpecifierSet(said))
    except InvalidSpecifier as error:
        why = f"its Requires-Python {shown(said)} is not a range"
        raise WheelRefused(wheel, "metadata_invalid", why) from error


def _entry_points(archive: Archive, info: str) -> Mapping[str, Mapping[str, str]]:
    path = f"{info}/entry_points.txt"
    if path not in archive.names:
        return {}
    parser = configparser.ConfigParser(
        delimiters=("=",),
        comment_prefixes=("#",),
        interpolation=None,
        default_section="\0",
        empty_lines_in_values=False,
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    try:
        parser.read_string(_text(archive, path, MAX_SMALL_BYTES, "metadata_missing"))
    except configparser.Error as error:
        why = f"entry_points.txt cannot be read: {shown(error.message)}"
        raise WheelRefused(archive.wheel, "metadata_invalid", why) from error
    groups = {group.strip(): dict(parser[group]) for group in parser.sections()}
    for value in (value for group in groups.values() for value in group.values()):
        if "\n" in value:  # to readers that strip their lines a second line may begin a group
            why = f"entry_points.txt has a value of several lines: {shown(value)}"
            raise WheelRefused(archive.wheel, "metadata_invalid", why)
    return groups


def _text(archive: Archive, path: str, most: int, missing: str) -> str:
    if path not in archive.names:
        raise WheelRefused(archive.wheel, missing, f"it has no {path.rpartition('/')[2]}")
    try:
        return archive.read(path, most).decode("utf-8")
    except UnicodeDecodeError as error:
        why = f"{path.rpartition('/')[2]} is not UTF-8"
        raise WheelRefused(archive.wheel, "metadata_invalid", why) from error


def _same_version(text: str, version: Version) -> bool:
    try:
        return Version(text.replace("_", "+", 1)) == version
    except InvalidVersion:
        return False
