"""What cffi made of the declarations ahead of time is used while it is true, and only then."""

from __future__ import annotations

import subprocess
import sys

from llama_plugin_cpu import declared, native


def test_it_was_made_of_the_declarations_as_they_are():
    """If this fails: python -m llama_plugin_cpu.declared"""
    assert declared.MADE.read_text() == declared.source(declared.declarations())


def test_no_c_is_parsed_to_open_the_library():
    code = (
        "import sys; from llama_plugin_cpu import native; native.tiers(); "
        "print([name for name in ('cffi', 'pycparser') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_comments_may_change_and_nothing_else():
    text = declared.declarations()
    assert declared.made_ahead(text) is not None
    assert declared.made_ahead(f"/* more\n words */\n{text}  ") is not None
    assert declared.made_ahead(text.replace("int32_t rows", "int64_t rows", 1)) is None
    assert declared.made_ahead("") is None


def test_a_library_with_other_declarations_is_bound_by_them(monkeypatch):
    """As between a change of the header and the writing of the module."""
    text = declared.declarations() + "\ntypedef int32_t llama_more;\n"
    monkeypatch.setattr(native, "declarations", lambda: text)
    native.library.cache_clear()
    try:
        ffi, lib = native.library()
        assert type(ffi).__module__ == "cffi.api"
        assert lib.llama_abi() == native.ABI
    finally:
        native.library.cache_clear()
