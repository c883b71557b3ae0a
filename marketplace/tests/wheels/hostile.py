"""Wheels that somebody made to do harm, or to look like something else: each with its refusal.

Every file of code in them writes a canary when it is run, so that a test can see that none was.
"""

from __future__ import annotations

import stat
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from .making import Made, digest

CANARY = "import os, pathlib; pathlib.Path(os.environ['CANARY']).write_text('ran')\n"
CODE = CANARY.encode()
PACKAGE, INFO = "llama_plugin_rhyme", "llama_plugin_rhyme-1.0.dist-info"
ELF = b"\x7fELF\x02\x01\x01" + b"\0" * 57
PE = b"MZ" + b"\0" * 58 + struct.pack("<L", 64) + b"PE\0\0" + b"\0" * 20
FAT = b"\xca\xfe\xba\xbe" + struct.pack(">L", 2) + b"\0" * 32


def added(**files: bytes) -> Made:
    return Made(files=dict(files))


def at(path: str, data: bytes = CODE, **more: Any) -> Made:
    return Made(files={path: data}, **more)


def late(path: str, data: bytes = CODE, **more: Any) -> Made:
    return Made(late={path: data}, **more)


def info_of(name: str, change: Callable[[zipfile.ZipInfo], None]) -> Callable[[Any], None]:
    return lambda info: change(info) if info.filename == name else None


def mode(name: str, bits: int) -> Made:
    def change(info: zipfile.ZipInfo) -> None:
        info.external_attr = bits << 16

    return Made(files={name: CODE}, infos=info_of(name, change))


def renamed(old: str, new: str, *, both: bool = True) -> Callable[[bytes], bytes]:
    """Change a name of the same length in the archive's own tables, which no library would write.

    In the local header and in the list, or in the list alone.
    """
    first, second = old.encode(), new.encode()
    assert len(first) == len(second)

    def change(data: bytes) -> bytes:
        start = data.index(b"PK\1\2")
        head, tail = data[:start], data[start:]
        return (head.replace(first, second) if both else head) + tail.replace(first, second)

    return change


def flagged(bit: int) -> Callable[[bytes], bytes]:
    """Set a flag of the first member, in both of its headers."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        for mark, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            place = out.index(mark) + offset
            (flags,) = struct.unpack_from("<H", out, place)
            struct.pack_into("<H", out, place, flags | bit)
        return bytes(out)

    return change


def poke(mark: bytes, offset: int, form: str, value: int) -> Callable[[bytes], bytes]:
    """Overwrite one field after the first such mark."""

    def change(data: bytes) -> bytes:
        out = bytearray(data)
        struct.pack_into(form, out, out.index(mark) + offset, value)
        return bytes(out)

    return change


def hidden_member(data: bytes) -> bytes:
    """A file before the list that the list does not name: some readers would unpack it."""
    start = data.index(b"PK\1\2")
    extra = zipfile_of("sitecustomize.py", CODE)
    extra = extra[: extra.index(b"PK\1\2")]
    out = bytearray(data[:start] + extra + data[start:])
    end = len(out) - 22
    struct.pack_into("<L", out, end + 16, start + len(extra))
    return bytes(out)


def zipfile_of(name: str, data: bytes) -> bytes:
    import io

    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr(name, data)
    return out.getvalue()


def record_of(path: str, data: bytes) -> Callable[[list[str]], list[str]]:
    return lambda lines: [*lines, f"{path},{digest(data)},{len(data)}"]


def line(old: str, new: str) -> Callable[[str], str]:
    return lambda text: text.replace(old, new)


def entry_points(text: str) -> Made:
    return at(f"{INFO}/entry_points.txt", text.encode())


def manifest(text: str, **more: Any) -> Made:
    return at(f"{PACKAGE}/plugin.toml", text.encode(), **more)


OURS = "[llama_core]\nrhyme = llama_plugin_rhyme\n"
SAID = 'name = "rhyme"\nsummary = "x"\n'
PROVIDES = '[[provides]]\nkind = "transform"\nname = "rhyme"\napi = 1\n'
BOMB = b"\0" * (70 << 20)

# what it is -> the wheel, the rule that refuses it
HOSTILE: dict[str, tuple[Made, str]] = {
    # run at every start of Python, or put where others look
    "a .pth file": (at("rhyme.pth", b"import llama_plugin_rhyme"), "pth"),
    "a .pth file in capitals": (at("rhyme.PTH", b"import llama_plugin_rhyme"), "pth"),
    "a .pth file deep inside": (at(f"{PACKAGE}/x/rhyme.pth", b"import os"), "pth"),
    "a .pth file as data": (at("llama_plugin_rhyme-1.0.data/purelib/a.pth", b"import os"), "pth"),
    "sitecustomize": (at("sitecustomize.py"), "at_start"),
    "sitecustomize as a package": (at("sitecustomize/__init__.py"), "at_start"),
    "sitecustomize, compiled": (at("sitecustomize.cpython-311-x86_64-linux-gnu.so"), "at_start"),
    "sitecustomize as data": (
        at("llama_plugin_rhyme-1.0.data/purelib/sitecustomize.py"), "at_start"),
    "usercustomize": (at("usercustomize.py"), "at_start"),
    "a module of Python's": (at("json/__init__.py"), "shadowing"),
    "a module of Python's, as one file": (at("secrets.py"), "shadowing"),
    "the core": (at("llama_core/evil.py"), "shadowing"),
    "the marketplace": (at("llama_marketplace/evil.py"), "shadowing"),
    "the core's own name": (
        Made(dist="llama-core", files={"x.txt": b""}), "shadowing"),
    "a neighbour": (at("llama_plugin_cpu/evil.py"), "foreign_top_level"),
    "a foreign module": (at("requests.py"), "foreign_top_level"),
    "a foreign file": (at("README.md", b"hello"), "foreign_top_level"),
    "a second package": (at("numpy_extras/__init__.py"), "foreign_top_level"),
    "a script as data": (at("llama_plugin_rhyme-1.0.data/scripts/pip"), "undeclared_script"),
    "a file for /etc": (at("llama_plugin_rhyme-1.0.data/data/etc/x", b"x"), "data_outside"),
    "a header": (at("llama_plugin_rhyme-1.0.data/headers/x.h", b"x"), "data_outside"),
    "a command": (
        entry_points(OURS + "[console_scripts]\npip = llama_plugin_rhyme:main\n"),
        "undeclared_script"),
    "a command with windows": (
        entry_points(OURS + "[gui_scripts]\npip = llama_plugin_rhyme:main\n"),
        "undeclared_script"),
    "a plugin of pytest": (
        entry_points(OURS + "[pytest11]\nx = llama_plugin_rhyme\n"), "foreign_entry_point"),
    "a backend that torch loads": (
        entry_points(OURS + "[torch.backends]\nx = llama_plugin_rhyme:load\n"),
        "foreign_entry_point"),
    "the installer's name": (at(f"{INFO}/INSTALLER", b"pip"), "installer_file"),
    "where it came from": (at(f"{INFO}/direct_url.json", b"{}"), "installer_file"),
    "code among the metadata": (at(f"{INFO}/evil.py"), "code_in_metadata"),
    "native code among the metadata": (at(f"{INFO}/licenses/LICENSE", ELF), "code_in_metadata"),
    "bytecode": (at(f"{PACKAGE}/__pycache__/x.cpython-311.pyc", b"\0" * 20), "bytecode"),
    "bytecode without a source": (at(f"{PACKAGE}/hidden.pyc", b"\0" * 20), "bytecode"),
    # native code
    "an ELF library": (at(f"{PACKAGE}/x.so", ELF), "undeclared_native"),
    "an ELF library called data": (at(f"{PACKAGE}/weights.bin", ELF), "undeclared_native"),
    "a Windows library called data": (at(f"{PACKAGE}/weights.bin", PE), "undeclared_native"),
    "a Mach-O library called data": (at(f"{PACKAGE}/weights.bin", FAT), "undeclared_native"),
    "a library that runs anywhere": (
        at(f"{PACKAGE}/x.so", ELF, manifest_extra='permissions = ["native-code"]'),
        "native_anywhere"),
    # names
    "up and out": (at("../evil.py"), "parent_name"),
    "up and out, deep": (at(f"{PACKAGE}/../../evil.py"), "parent_name"),
    "an absolute name": (at("/tmp/evil.py"), "absolute_name"),
    "a drive": (at("C:/evil.py"), "absolute_name"),
    "a backslash": (at("llama_plugin_rhyme\\..\\evil.py"), "odd_name"),
    "an empty part": (at(f"{PACKAGE}//evil.py"), "odd_name"),
    "a dot": (at(f"{PACKAGE}/./evil.py"), "odd_name"),
    "a zero byte": (
        at(f"{PACKAGE}/evil.pyX", archive=renamed("evil.pyX", "evil.py\0")), "odd_name"),
    "a line break": (at(f"{PACKAGE}/evil\n.py"), "odd_name"),
    "a change of direction": (at(f"{PACKAGE}/evil\u202eyp.txt"), "odd_name"),
    "a name in decomposed form": (at(f"{PACKAGE}/e\u0301.py"), "odd_name"),
    "a name without its encoding": (
        at(f"{PACKAGE}/evilXX.py", archive=renamed("evilXX", "evil\u00e9")), "odd_name"),
    "a device of Windows": (at(f"{PACKAGE}/aux.py"), "odd_name"),
    "a stream of Windows": (at(f"{PACKAGE}/x.py:evil"), "odd_name"),
    "a dot at the end": (at(f"{PACKAGE}/evil.py."), "odd_name"),
    "a long part": (at(f"{PACKAGE}/{'x' * 300}.py"), "long_name"),
    "a deep path": (at(f"{PACKAGE}/{'x/' * 250}y.py"), "long_name"),
    "one name in two cases": (
        Made(files={f"{PACKAGE}/a.py": CODE, f"{PACKAGE}/A.py": CODE}), "collision"),
    "one folder in two cases": (
        Made(files={f"{PACKAGE}/a/x.py": CODE, f"{PACKAGE}/A/y.py": CODE}), "collision"),
    "one name in two forms of Unicode": (
        Made(files={f"{PACKAGE}/\ufb01.py": CODE, f"{PACKAGE}/fi.py": CODE}), "collision"),
    "a file that is a folder too": (
        Made(files={f"{PACKAGE}/x": CODE, f"{PACKAGE}/x/y.py": CODE}), "collision"),
    "one name twice": (
        Made(files={f"{PACKAGE}/a.py": b"pass", f"{PACKAGE}/b.py": CODE},
             archive=renamed(f"{PACKAGE}/b.py", f"{PACKAGE}/a.py")), "duplicate"),
    # kinds of members
    "a link": (mode(f"{PACKAGE}/x", stat.S_IFLNK | 0o777), "link"),
    "a device": (mode(f"{PACKAGE}/x", stat.S_IFCHR | 0o666), "special_file"),
    "a pipe": (mode(f"{PACKAGE}/x", stat.S_IFIFO | 0o666), "special_file"),
    "a program that runs as its owner": (
        mode(f"{PACKAGE}/x", stat.S_IFREG | 0o4755), "special_file"),
    "a folder by its mode": (mode(f"{PACKAGE}/x", stat.S_IFDIR | 0o755), "ambiguous"),
    # archives
    "not an archive": (Made(archive=lambda data: b"hello" * 100), "trailing_data"),
    "nothing": (Made(archive=lambda data: b""), "trailing_data"),
    "a cut archive": (Made(archive=lambda data: data[:-40]), "trailing_data"),
    "something appended": (Made(archive=lambda data: data + CODE), "trailing_data"),
    "a program before it": (Made(archive=lambda data: b"#!/bin/sh\n" + data), "trailing_data"),
    "two archives in one": (
        Made(archive=lambda data: zipfile_of("sitecustomize.py", CODE) + data), "trailing_data"),
    "a comment": (
        Made(archive=lambda data: data[:-2] + b"\x05\x00hello"), "trailing_data"),
    "a file that the list does not name": (Made(archive=hidden_member), "ambiguous"),
    "another name in the local header": (
        at(f"{PACKAGE}/good.py", archive=renamed("good.py", "evil.py", both=False)), "ambiguous"),
    "another packing in the local header": (
        Made(archive=poke(b"PK\3\4", 8, "<H", 0)), "ambiguous"),
    "another size in the local header": (
        Made(archive=poke(b"PK\3\4", 22, "<L", 7)), "ambiguous"),
    "another digest in the local header": (
        Made(archive=poke(b"PK\3\4", 14, "<L", 7)), "ambiguous"),
    "two sizes of what is not packed": (
        Made(infos=lambda info: setattr(info, "compress_type", 0),
             archive=poke(b"PK\1\2", 24, "<L", 1)), "ambiguous"),
    "a stored file that does not say where it ends": (
        Made(infos=lambda info: setattr(info, "compress_type", 0), archive=flagged(0x8)),
        "ambiguous"),
    "an encrypted file": (Made(archive=flagged(0x1)), "encrypted"),
    "a packing of its own": (
        Made(archive=poke(b"PK\1\2", 10, "<H", 99)), "compression"),
    "a packing that wheels do not use": (
        Made(infos=lambda info: setattr(info, "compress_type", zipfile.ZIP_LZMA)), "compression"),
    "a bomb": (at(f"{PACKAGE}/zeros", BOMB), "bomb"),
    "a number of files that is not true": (
        Made(archive=lambda data: data[:-14] + struct.pack("<2H", 60000, 60000) + data[-10:]),
        "too_many"),
    "damaged content": (
        Made(infos=lambda info: setattr(info, "compress_type", 0),
             archive=lambda data: data.replace(b"Keeps every token", b"Keeps every money")),
        "damaged"),
    # RECORD
    "no RECORD": (Made(without=(f"{INFO}/RECORD",)), "record_missing"),
    "a file that RECORD does not list": (late(f"{PACKAGE}/evil.py"), "record_mismatch"),
    "a file that is not there": (
        Made(record=record_of(f"{PACKAGE}/gone.py", b"x")), "record_mismatch"),
    "a changed file": (
        Made(late={f"{PACKAGE}/x.py": CODE}, record=record_of(f"{PACKAGE}/x.py", b"pass")),
        "record_mismatch"),
    "a line of RECORD twice": (Made(record=lambda lines: [lines[0], *lines]), "record_invalid"),
    "a digest of MD5": (
        Made(record=lambda lines: [each.replace("sha256=", "md5=") for each in lines]),
        "record_invalid"),
    "a line without a digest": (
        Made(record=lambda lines: [lines[0].split(",")[0] + ",,", *lines[1:]]), "record_invalid"),
    # metadata
    "no name of a wheel": (Made(filename="rhyme.whl"), "filename"),
    "another version in the file name": (
        Made(filename="llama_plugin_rhyme-2.0-py3-none-any.whl"), "metadata_mismatch"),
    "another name in the file name": (
        Made(filename="llama_plugin_rhymes-1.0-py3-none-any.whl"), "metadata_mismatch"),
    "another name in METADATA": (
        Made(metadata=line("Name: llama-plugin-rhyme", "Name: llama-plugin-cpu")),
        "metadata_mismatch"),
    "another version in METADATA": (
        Made(metadata=line("Version: 1.0", "Version: 9.0")), "metadata_mismatch"),
    "two names in METADATA": (
        Made(metadata=line("Name: ", "Name: evil\nName: ")), "metadata_invalid"),
    "other tags in WHEEL": (
        Made(wheel=line("py3-none-any", "cp311-cp311-linux_x86_64")), "metadata_mismatch"),
    "a wheel of another format": (
        Made(wheel=line("Wheel-Version: 1.0", "Wheel-Version: 9.0")), "metadata_invalid"),
    "no METADATA": (Made(without=(f"{INFO}/METADATA",)), "metadata_missing"),
    "no WHEEL": (Made(without=(f"{INFO}/WHEEL",)), "metadata_missing"),
    "metadata of another distribution": (
        at("evil.egg-info/PKG-INFO", b"Name: x"), "second_metadata"),
    "metadata of another distribution, as data": (
        at("llama_plugin_rhyme-1.0.data/purelib/evil-1.0.dist-info/METADATA", b"Name: x"),
        "second_metadata"),
    "two folders of metadata": (at("evil-1.0.dist-info/METADATA", b"Name: x"), "metadata_missing"),
    "a README without end": (
        Made(metadata=lambda text: text + "x" * (3 << 20)), "too_large"),
    "METADATA that is no text": (
        at(f"{INFO}/METADATA", b"Name: \xff\xfe"), "metadata_invalid"),
    "a requirement by address": (
        Made(requires=("llama-core>=0.1", "evil @ https://example.com/evil.tar.gz")),
        "requirement_by_url"),
    "a requirement from git": (
        Made(requires=("llama-core>=0.1", "evil @ git+https://example.com/evil")),
        "requirement_by_url"),
    "a requirement that is none": (
        Made(requires=("llama-core>=0.1", "--index-url https://example.com")),
        "metadata_invalid"),
    "requirements without end": (
        Made(requires=("llama-core>=0.1", *(f"x{n}" for n in range(300)))), "too_many"),
    "a Python that is none": (
        Made(metadata=line("Version: 1.0", "Version: 1.0\nRequires-Python: new")),
        "metadata_invalid"),
    "no core": (Made(requires=()), "no_core"),
    "a core only as an extra": (
        Made(requires=("llama-core>=0.1; extra == 'x'",)), "no_core"),
    # what it says it is
    "no entry point": (Made(without=(f"{INFO}/entry_points.txt",)), "no_plugin"),
    "two plugins": (entry_points(OURS + "cpu = llama_plugin_rhyme\n"), "many_plugins"),
    "an entry point that is code": (
        entry_points("[llama_core]\nrhyme = os:system\n"), "entry_point"),
    "a group inside of a value": (
        entry_points(f"{OURS}[console_scripts]\nx = {PACKAGE}:x\n  [pytest11]\n  y = {PACKAGE}\n"),
        "metadata_invalid"),
    "a group behind a comment that not all take for one": (
        entry_points(f"{OURS}; [pytest11]\n"), "metadata_invalid"),
    "a name behind a broken line": (
        Made(metadata=line("Summary:", "broken\nName: llama-plugin-cpu\nSummary:")),
        "metadata_invalid"),
    "entry points that cannot be read": (entry_points("[llama_core\nx"), "metadata_invalid"),
    "no manifest": (Made(without=(f"{PACKAGE}/plugin.toml",)), "manifest_missing"),
    "a manifest that is no TOML": (manifest("name = = 1"), "manifest_invalid"),
    "a manifest too large": (manifest("# " + "x" * 70_000), "too_large"),
    "a manifest of an unknown field": (
        manifest(SAID + "autorun = true\n" + PROVIDES), "manifest_invalid"),
    "a manifest of another name": (
        manifest(SAID.replace("rhyme", "cpu") + PROVIDES), "manifest_invalid"),
    "a module of somebody else": (
        manifest(SAID + 'module = "os"\n' + PROVIDES), "manifest_lies"),
    "a module that is not there": (
        manifest(SAID + 'module = "llama_plugin_rhyme.gone"\n' + PROVIDES), "manifest_lies"),
    "options that are not there": (
        manifest(SAID + PROVIDES + 'options = "llama_plugin_rhyme:gone.json"\n'),
        "manifest_lies"),
    "a package that is none": (Made(without=(f"{PACKAGE}/__init__.py",)), "manifest_lies"),
}  # fmt: skip
