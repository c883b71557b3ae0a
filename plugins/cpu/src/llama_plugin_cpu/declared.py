"""What cffi knows of the library: made of its declarations ahead of time, since parsing is slow.

    python -m llama_plugin_cpu.declared

writes `_declared.py` anew after a change of the header. It carries a digest of what it was made of:
where that is not what came with the library, it is not used, and cffi parses.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
MADE = FOLDER / "_declared.py"
NAME = "llama_plugin_cpu._declared"


def declarations() -> str:
    """What came with the library; nothing where that is missing, which loading it reports."""
    try:
        return (FOLDER / "_ffi.cdef.txt").read_text()
    except OSError:
        return ""


def digest(text: str) -> str:
    """Of what matters: neither comments nor the breaking of lines."""
    bare = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    return hashlib.sha256(" ".join(bare.split()).encode()).hexdigest()


def made_ahead(text: str) -> Any:
    """cffi's `ffi` of these declarations, or None where what is there was made of others."""
    try:
        from llama_plugin_cpu import _declared
    except ImportError:  # it is being written, or its form is not this cffi's
        return None
    return _declared.ffi if digest(text) == _declared.DIGEST else None


def source(text: str) -> str:
    """The module `_declared` of these declarations."""
    from cffi import FFI

    from llama_core.native import ABI_DECLARATION

    ffi = FFI()
    ffi.cdef(ABI_DECLARATION + text)
    ffi.set_source(NAME, None)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.py")
        ffi.emit_python_code(str(made))
        code = made.read_text().removeprefix("# auto-generated file\n")
    head = '"""Written by `python -m llama_plugin_cpu.declared`."""\n\n'
    left_alone = "# mypy: ignore-errors\n# ruff: noqa\n# fmt: off\n"
    return f'{head}{left_alone}DIGEST = "{digest(text)}"\n{code}'


if __name__ == "__main__":
    MADE.write_text(source(declarations()))
    sys.stdout.write(f"{MADE} is made of {FOLDER / '_ffi.cdef.txt'}\n")
