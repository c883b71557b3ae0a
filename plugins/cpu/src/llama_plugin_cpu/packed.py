"""Packed matrices in and out of the library: what a file keeps of them, and the struct made of it.

Knows `llama_packed` and the names under which a pack file keeps its fields; the library checks the
sizes again.
"""

from __future__ import annotations

from typing import Any

from llama_plugin_cpu import native
from llama_plugin_cpu.packfile import Pack

NUMBERS = ("kind", "rows", "cols", "group", "zero", "wide")


def show(handle: Any, number: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """A packed matrix of a program: its numbers, and views of its memory by name."""
    ffi, lib = native.library()
    one = ffi.new("llama_packed *")
    native.check(lib.llama_program_packed(handle, number, one))
    about = {name: getattr(one, name) for name in NUMBERS}
    parts = {"data": ffi.buffer(one.data, one.data_bytes)}
    for name in ("scales", "minimums"):
        if getattr(one, name) != ffi.NULL:
            parts[name] = ffi.buffer(getattr(one, name), one.small_bytes)
    return {**about, "table": list(one.table)}, parts


def struct(pack: Pack, label: str) -> tuple[Any, list[Any]]:
    """The struct of a kept matrix, and what must live as long as its pointers are used."""
    ffi, _ = native.library()
    one = ffi.new("llama_packed *")
    about = pack.sections[label]
    kept = []
    try:
        for name in NUMBERS:
            setattr(one, name, about[name])
        one.table = about["table"]
        for name in ("data", "scales", "minimums"):
            part = pack.part(label, name)
            if part is None:
                continue
            buffer = ffi.from_buffer(part)
            setattr(one, name, buffer)
            kept.append(buffer)
            if name == "minimums" and len(part) != one.small_bytes:
                raise native.CpuError(f"the kept minimums of {label} have the wrong size")
            setattr(one, "data_bytes" if name == "data" else "small_bytes", len(part))
    except (KeyError, TypeError, OverflowError, IndexError) as error:
        raise native.CpuError(f"the kept matrix {label} makes no sense: {error}") from error
    return one, kept
