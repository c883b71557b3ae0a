"""A native library is opened only with the interface that its Python side was written for."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest
from cffi import FFI

from llama_core.errors import IncompatiblePlugin, LlamaError
from llama_core.native import ABI_DECLARATION, SUFFIX, load_library

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="there is no C compiler here")
DECLARATIONS = "int32_t twice(int32_t);"
TWICE = "#include <stdint.h>\nint32_t twice(int32_t x) { return 2 * x; }\n"
ABI = "int32_t llama_abi(void) { return %d; }\n"


def compiled(tmp_path: Path, source: str) -> Path:
    """The library's path without its suffix."""
    assert COMPILER is not None
    code, stem = tmp_path / "twice.c", tmp_path / "_twice"
    code.write_text(source)
    library = str(stem) + SUFFIX
    subprocess.run([COMPILER, "-shared", "-fPIC", "-o", library, str(code)], check=True)
    return stem


def refused(stem: Path, abi: int = 3) -> LlamaError:
    with pytest.raises(LlamaError) as caught:
        load_library(stem, DECLARATIONS, abi=abi, plugin="twice")
    return caught.value


@needs_compiler
def test_a_library_of_the_right_interface_is_loaded(tmp_path: Path) -> None:
    ffi, lib = load_library(
        compiled(tmp_path, TWICE + ABI % 3), DECLARATIONS, abi=3, plugin="twice"
    )
    assert lib.twice(21) == 42
    assert ffi.sizeof("int32_t") == 4


@needs_compiler
@pytest.mark.parametrize("found", [3, 4])
def test_what_cffi_made_ahead_is_used_and_held_to_the_interface(tmp_path: Path, found: int) -> None:
    stem = compiled(tmp_path, TWICE + ABI % found)
    parsed = FFI()
    parsed.cdef(ABI_DECLARATION + DECLARATIONS)
    parsed.set_source("made_ahead", None)
    parsed.emit_python_code(str(tmp_path / "made_ahead.py"))
    made = runpy.run_path(str(tmp_path / "made_ahead.py"))["ffi"]
    if found != 3:
        with pytest.raises(IncompatiblePlugin):
            load_library(stem, "", abi=3, plugin="twice", made=made)
        return
    ffi, lib = load_library(stem, "", abi=3, plugin="twice", made=made)
    assert ffi is made
    assert lib.twice(21) == 42


@needs_compiler
@pytest.mark.parametrize("found", [2, 4, 0, -1])
def test_a_library_of_another_interface_is_refused(tmp_path: Path, found: int) -> None:
    stem = compiled(tmp_path, TWICE + ABI % found)
    error = refused(stem)
    assert isinstance(error, IncompatiblePlugin)
    assert str(error) == (
        f"the native library {stem}{SUFFIX} of plugin 'twice' has interface {found}, and its "
        "Python side was written for 3. Reinstall the plugin so that both come from one build: "
        "pip install --force-reinstall llama-plugin-twice, or in a checkout: "
        "pip install --force-reinstall ./plugins/twice"
    )


@needs_compiler
def test_a_library_that_does_not_say_its_interface_is_refused(tmp_path: Path) -> None:
    error = refused(compiled(tmp_path, TWICE))
    assert error.code == "native_library"
    assert "plugin 'twice' cannot load " in str(error)
    assert "llama_abi" in str(error)


def test_a_library_that_is_not_there_names_the_wheel_to_install(tmp_path: Path) -> None:
    error = refused(tmp_path / "_twice")
    assert str(error) == (
        f"plugin 'twice' was installed without its native library {tmp_path / '_twice'}{SUFFIX}. "
        "Install a wheel built for this platform: pip install --only-binary :all: "
        "--force-reinstall llama-plugin-twice, or in a checkout: "
        "pip install --force-reinstall ./plugins/twice"
    )


def test_a_file_that_is_no_library_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"_twice{SUFFIX}").write_bytes(b"not a library")
    assert f"plugin 'twice' cannot load {tmp_path / '_twice'}{SUFFIX}: " in str(
        refused(tmp_path / "_twice")
    )
