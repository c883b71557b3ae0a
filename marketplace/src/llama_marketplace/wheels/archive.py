"""A wheel's archive, read as if an enemy had made it.

Knows ZIP and nothing of wheels. Readers of ZIP disagree on what a twisted archive holds; one that
leaves room to disagree is refused: the local headers must say what the directory at the end says,
one after the other, without a gap, from the first byte of the file to the last.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from llama_marketplace.wheels import names
from llama_marketplace.wheels.refusal import WheelRefused, shown

MAX_BYTES = 4 << 30  # of the archive; the largest wheels of the field have about 1 GiB
MAX_TOTAL_BYTES = 16 << 30  # of what it unpacks to
MAX_MEMBERS = 50_000
# Text and tables shrink to a tenth; a hundredth in bulk is made to fill a disk.
MAX_RATIO = 100
RATIO_COUNTS_FROM_BYTES = 64 << 20
HEAD_BYTES = 4096  # of each file, for telling what it is

_LOCAL = struct.Struct("<4s5H3L2H")
_END = struct.Struct("<4s4H2LH")
_ZIP64_BYTES = 56 + 20  # its end record and the locator
_UTF8, _STREAMED, _SECRET = 0x800, 0x8, 0x1 | 0x40 | 0x2000
_ZIP64, _UNICODE_PATH = 0x0001, 0x7075
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Content:
    """One file of the archive, as read to its end."""

    sha256: str
    size: int
    head: bytes


class Archive:
    """An open archive whose structure was checked. A context manager."""

    def __init__(self, path: Path) -> None:
        self.path, self.wheel = path, path.name
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise WheelRefused(self.wheel, "unreadable", f"{error.strerror}") from error
        try:
            self._members = self._check()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    @property
    def names(self) -> tuple[str, ...]:
        """The files, without the folders, in the archive's order."""
        return tuple(self._members)

    def mode(self, name: str) -> int:
        """Whether it may be executed, as the permission bits it is to get."""
        return 0o755 if self._members[name].external_attr >> 16 & 0o111 else 0o644

    def read(self, name: str, most: int) -> bytes:
        """A small file whole."""
        size = self._members[name].file_size
        if size > most:
            raise self._refuse("too_large", f"{shown(name)} has {size:,} bytes, {most:,} at most")
        return b"".join(self.chunks(name))

    def content(self, name: str) -> Content:
        """Read a file to its end: its digest, its size, how it begins."""
        digest, size, head = hashlib.sha256(), 0, b""
        for chunk in self.chunks(name):
            digest.update(chunk)
            size += len(chunk)
            head = head or chunk[:HEAD_BYTES]
        return Content(digest.hexdigest(), size, head)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The bytes of a file; never more than its header says."""
        try:
            with self._zip.open(self._members[name]) as member:
                yield from iter(lambda: member.read(_CHUNK), b"")
                if member.tell() != self._members[name].file_size:
                    raise zipfile.BadZipFile("it ends before its size")
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise self._refuse("damaged", f"{shown(name)} cannot be unpacked: {error}") from error

    def _refuse(self, reason: str, why: str, remedy: str | None = None) -> WheelRefused:
        return WheelRefused(self.wheel, reason, why, remedy=remedy)

    # ---- checking the structure ------------------------------------------------------------

    def _check(self) -> dict[str, zipfile.ZipInfo]:
        facts = os.fstat(self._file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise self._refuse("unreadable", "it is not a file")
        if facts.st_size > MAX_BYTES:
            raise self._refuse(
                "too_large", f"it has {facts.st_size:,} bytes, {MAX_BYTES:,} at most"
            )
        num_members, directory = self._end(facts.st_size)
        try:
            self._zip = zipfile.ZipFile(self._file)
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
            raise self._refuse("damaged", f"it is not a ZIP archive: {error}") from error
        members = self._zip.infolist()
        if num_members not in (len(members), 0xFFFF):
            raise self._refuse("ambiguous", f"it says {num_members} files and lists {len(members)}")
        total = sum(each.file_size for each in members)
        if total > MAX_TOTAL_BYTES or (
            total > RATIO_COUNTS_FROM_BYTES and total > MAX_RATIO * facts.st_size
        ):
            raise self._refuse(
                "bomb", f"{facts.st_size:,} bytes would unpack to {total:,}, which is no software"
            )
        for each in members:
            self._check_member(each)
        clash = names.collision(each.orig_filename for each in members)
        if clash is not None:
            reason = "duplicate" if clash[0] == clash[1] else "collision"
            both = " and ".join(shown(name) for name in clash)
            raise self._refuse(reason, f"{both} would be one file")
        self._check_layout(members, directory)
        return {each.orig_filename: each for each in members if not each.is_dir()}

    def _end(self, size: int) -> tuple[int, int]:
        """How many members the last bytes speak of, and where the list of them starts."""
        self._file.seek(max(0, size - _END.size))
        last = self._file.read(_END.size)
        if len(last) < _END.size or not last.startswith(b"PK\5\6"):
            why = "it does not end where a ZIP archive ends: it is cut, or something was appended"
            raise self._refuse("trailing_data", why)
        _, disk, first_disk, here, num, length, start, comment = _END.unpack(last)
        if comment or disk or first_disk or here != num:
            raise self._refuse("trailing_data", "it has a comment or is one part of several")
        if num != 0xFFFF and num > MAX_MEMBERS:
            raise self._refuse("too_many", f"it has {num} files, {MAX_MEMBERS} at most")
        if 0xFFFFFFFF not in (length, start) and num != 0xFFFF:
            if start + length != size - _END.size:
                raise self._refuse("trailing_data", "there are bytes that belong to no file")
            return num, start
        return self._end_of_large(size)

    def _end_of_large(self, size: int) -> tuple[int, int]:
        """The same for an archive in the format for more than 4 GiB or 65,535 files."""
        at = size - _END.size - _ZIP64_BYTES
        self._file.seek(max(0, at))
        record = self._file.read(_ZIP64_BYTES)
        if at < 0 or record[:4] != b"PK\6\6" or record[56:60] != b"PK\6\7":
            raise self._refuse("ambiguous", "its end speaks of a larger archive than this is")
        num, length, start = map(int, struct.unpack_from("<3Q", record, 32))
        if num > MAX_MEMBERS:
            raise self._refuse("too_many", f"it has {num} files, {MAX_MEMBERS} at most")
        if start + length != at:
            raise self._refuse("trailing_data", "there are bytes that belong to no file")
        return num, start

    def _check_member(self, info: zipfile.ZipInfo) -> None:
        name = info.orig_filename
        what = shown(name)
        wrong = names.fault(name)
        if wrong is not None:
            raise self._refuse(wrong[0], f"{what} {wrong[1]}")
        if info.flag_bits & _SECRET:
            raise self._refuse("encrypted", f"{what} is encrypted")
        if not name.isascii() and not info.flag_bits & _UTF8:
            raise self._refuse("odd_name", f"{what} does not say in which encoding it is")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise self._refuse(
                "compression", f"{what} is packed by a method that wheels do not use"
            )
        if info.compress_type == zipfile.ZIP_STORED and info.compress_size != info.file_size:
            raise self._refuse("ambiguous", f"{what} is not packed and has two sizes")
        mode = info.external_attr >> 16
        if stat.S_ISLNK(mode):
            raise self._refuse("link", f"{what} is a link", "Ship the file itself.")
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR) or mode & 0o7000:
            raise self._refuse("special_file", f"{what} is neither a plain file nor a folder")
        if info.is_dir() and info.file_size:
            raise self._refuse("ambiguous", f"the folder {what} has content")
        if stat.S_ISDIR(mode) != info.is_dir() and stat.S_IFMT(mode):
            raise self._refuse("ambiguous", f"{what} is a file by name and a folder by mode")

    def _check_layout(self, members: list[zipfile.ZipInfo], directory: int) -> None:
        end = 0
        for info in sorted(members, key=lambda each: each.header_offset):
            streamed = bool(info.flag_bits & _STREAMED)
            gap = info.header_offset - end
            if gap != 0:
                raise self._refuse(
                    "ambiguous",
                    f"before {shown(info.orig_filename)} lie bytes of no file"
                    if gap > 0
                    else f"{shown(info.orig_filename)} lies inside of another file",
                )
            end = self._check_local(info, streamed)
        if end != directory:
            raise self._refuse("ambiguous", "after its last file lie bytes that belong to none")

    def _check_local(self, info: zipfile.ZipInfo, streamed: bool) -> int:
        """Compare the header before the bytes with the one in the list; gives where it ends."""
        what = shown(info.orig_filename)
        self._file.seek(info.header_offset)
        header = self._file.read(_LOCAL.size)
        if len(header) < _LOCAL.size or not header.startswith(b"PK\3\4"):
            raise self._refuse("damaged", f"{what} does not begin where the list says")
        _, _, flags, method, _, _, crc, packed, size, num_name, num_extra = _LOCAL.unpack(header)
        name, extra = self._file.read(num_name), self._file.read(num_extra)
        written = info.orig_filename.encode("utf-8" if info.flag_bits & _UTF8 else "cp437")
        sizes = (crc, packed, size) in (
            (info.CRC, info.compress_size, info.file_size),
            (info.CRC, 0xFFFFFFFF, 0xFFFFFFFF),
        )
        if name != written or (flags, method) != (info.flag_bits, info.compress_type):
            raise self._refuse(
                "ambiguous", f"{what} is called or packed otherwise in its own header"
            )
        if sizes and packed == 0xFFFFFFFF:
            sizes = _large_sizes(extra) == (info.file_size, info.compress_size)
        if streamed and info.compress_type == zipfile.ZIP_STORED:
            raise self._refuse("ambiguous", f"{what} does not say where it ends")
        if not sizes and not (streamed and (crc, packed, size) == (0, 0, 0)):
            raise self._refuse("ambiguous", f"{what} has other sizes in its own header")
        if _UNICODE_PATH in _kinds(extra) or _UNICODE_PATH in _kinds(info.extra):
            raise self._refuse("ambiguous", f"{what} has a second name")
        end: int = info.header_offset + _LOCAL.size + num_name + num_extra + info.compress_size
        return end + (self._descriptor(info, end) if streamed else 0)

    def _descriptor(self, info: zipfile.ZipInfo, at: int) -> int:
        """The length of what follows a file whose size was not known when it was begun."""
        self._file.seek(at)
        after = self._file.read(24)
        for mark in (b"PK\7\10", b""):
            for sizes in ("<3L", "<L2Q"):
                told = mark + struct.pack(sizes, info.CRC, info.compress_size, info.file_size)
                if after.startswith(told):
                    return len(told)
        raise self._refuse("ambiguous", f"{shown(info.orig_filename)} has other sizes after it")


def _kinds(extra: bytes) -> dict[int, bytes]:
    """The fields behind a name, by what they are."""
    kinds, at = {}, 0
    while at + 4 <= len(extra):
        kind, length = struct.unpack_from("<2H", extra, at)
        kinds[kind] = extra[at + 4 : at + 4 + length]
        at += 4 + length
    return kinds


def _large_sizes(extra: bytes) -> tuple[int, ...]:
    """What a header says of a file that may be larger than 4 GiB."""
    data = _kinds(extra).get(_ZIP64, b"")
    return struct.unpack_from("<2Q", data) if len(data) >= 16 else ()
