"""A scratch site directory with plugin distributions in it, as an installer would leave them.

For tests and benchmarks that need installed plugins: broken ones, hostile ones, a thousand of them.
It writes files and puts the folder on `sys.path`; what the plugins are is up to the caller.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import math
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_core.discovery import GROUP

if TYPE_CHECKING:
    from llama_core import compat
    from llama_core.config import Config
    from llama_core.contracts.spec import Spec
    from llama_core.events import Events
    from llama_core.plugins import Plugins

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


class Site:
    """A folder of installed distributions, as in::

        site = Site(tmp_path)
        site.add("min-p", {"provides": [{"kind": "transform", "name": "min-p", "api": 1}]},
                 {"llama_plugin_min_p/__init__.py": SOURCE})
        with site.plugins() as plugins:
            plugins.create("transform", "min-p")

    Nothing is compiled, downloaded or run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._modules: set[str] = set()  # top-level names that were written here
        folder.mkdir(parents=True, exist_ok=True)

    def add(
        self,
        name: str,
        manifest: Mapping[str, Any] | str | bytes | None,
        code: Mapping[str, str | bytes] | None = None,
        *,
        version: str = "0.1.0",
        dist: str | None = None,
        package: str | None = None,
        requires: Iterable[str] = (),
        entry_point: str | None = None,
    ) -> Path:
        """Write one plugin distribution; gives the folder of its package.

        A manifest that is a table gets `name` and `summary` where it lacks them; text and bytes are
        written as they are; None leaves the file out. `code` holds files by their path in the site;
        the package's `__init__.py` is there in any case. `dist` and `package` follow the plugin's
        name, and `entry_point` is the package, unless they are said. Adding a distribution again
        in the same version overwrites it.
        """
        dist = dist or f"llama-plugin-{name}"
        package = package or f"llama_plugin_{name.replace('-', '_')}"
        home = "/".join(package.split("."))
        files: dict[str, bytes] = {}
        if entry_point is None:  # or else the package may not be meant to exist
            entry_point = package
            files[f"{home}/__init__.py"] = b""
        if isinstance(manifest, Mapping):
            manifest = to_toml({"name": name, "summary": f"The plugin {name}", **manifest})
        if manifest is not None:
            files[f"{home}/plugin.toml"] = _bytes(manifest)
        files |= {path: _bytes(text) for path, text in (code or {}).items()}
        self._modules |= {path.split("/")[0].removesuffix(".py") for path in files}

        info = f"{dist.replace('-', '_')}-{version}.dist-info"
        header = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        header += [f"Requires-Dist: {each}" for each in requires]
        files[f"{info}/METADATA"] = _bytes("\n".join(header) + "\n")
        files[f"{info}/entry_points.txt"] = _bytes(f"[{GROUP}]\n{name} = {entry_point}\n")
        files[f"{info}/INSTALLER"] = b"llama-core\n"
        files[f"{info}/RECORD"] = _bytes(_record(files, f"{info}/RECORD"))
        for path, data in files.items():
            self._write(path, data)
        # A source of the same size, written within the same second, would find its old bytecode.
        shutil.rmtree(self.folder / home / "__pycache__", ignore_errors=True)
        importlib.invalidate_caches()
        return self.folder / home

    def _write(self, path: str, data: bytes) -> None:
        file = self.folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    @contextmanager
    def on_path(self) -> Iterator[None]:
        """The folder is first on `sys.path`; afterwards nothing that it held stays imported."""
        before = self._forget()
        sys.path.insert(0, str(self.folder))
        importlib.invalidate_caches()
        try:
            yield
        finally:
            sys.path.remove(str(self.folder))
            self._forget()
            sys.modules.update(before)
            importlib.invalidate_caches()

    def _forget(self) -> dict[str, Any]:
        """Drop what bears a name that this site writes; gives what was dropped."""
        mine = [name for name in sys.modules if name.partition(".")[0] in self._modules]
        return {name: sys.modules.pop(name) for name in mine}

    @contextmanager
    def plugins(
        self,
        config: Config | None = None,
        *,
        specs: Callable[[str], Spec[Any]] | None = None,
        adapters: compat.Adapters | None = None,
        events: Events | None = None,
        **settings: Any,
    ) -> Iterator[Plugins]:
        """The plugins of this site and the builtin one, and no others that are installed.

        `settings` are fields of `Config` and change the given one (or the default).
        """
        from llama_core import compat
        from llama_core.config import Config
        from llama_core.contracts import spec
        from llama_core.discovery import discover
        from llama_core.plugins import Plugins

        with self.on_path():
            yield Plugins(
                discover([str(self.folder)]),
                replace(config or Config(), **settings),
                specs=specs or spec,
                adapters=compat.ADAPTERS if adapters is None else adapters,
                events=events,
            )


def to_toml(table: Mapping[str, Any]) -> str:
    """A table as TOML: tables of tables in sections, everything deeper inline."""
    plain = {key: value for key, value in table.items() if not _is_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    for key, tables in table.items():
        if _is_tables(tables):
            for each in tables:
                lines += ["", f"[[{_key(key)}]]"]
                lines += [f"{_key(name)} = {_value(value)}" for name, value in each.items()]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and bool(value)
        and all(isinstance(each, Mapping) for each in value)
    )


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return _string(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    raise TypeError(f"TOML has nothing for {value!r}")


def _record(files: Mapping[str, bytes], own: str) -> str:
    lines = [
        f"{path},sha256={_digest(data)},{len(data)}" for path, data in files.items() if path != own
    ]
    return "\n".join([*lines, f"{own},,"]) + "\n"


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def _bytes(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode()
