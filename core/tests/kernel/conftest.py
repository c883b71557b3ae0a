"""Plugins that a test installs into a scratch site, and what the core said of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from llama_core.testing.site import Site

# A transform as an author would write it.
TRANSFORM = """
from llama_core import hookimpl

class Transform:
    def __init__(self, name, options):
        self.name, self.options = name, options
    def __call__(self, logits_NV, context):
        return logits_NV

@hookimpl
def llama_create_transform(name, options):
    return Transform(name, options)
"""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def install(site: Site) -> Callable[..., Path]:
    """Install a plugin: by default one that provides a transform of its own name."""

    def install_one(
        name: str,
        source: str = TRANSFORM,
        *,
        provides: list[dict[str, Any]] | None = None,
        manifest: Mapping[str, Any] | None = None,
        capability: Mapping[str, Any] | None = None,
        **how: Any,
    ) -> Path:
        one = {"kind": "transform", "name": name, "api": 1, **(capability or {})}
        table = {"provides": [one] if provides is None else provides, **(manifest or {})}
        package = how.get("package") or f"llama_plugin_{name.replace('-', '_')}"
        code = {f"{package.replace('.', '/')}/__init__.py": source}
        return site.add(name, table, {**code, **how.pop("code", {})}, **how)

    return install_one


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the core announced, line by line."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    log, handler = logging.getLogger("llama_core"), Keep()
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)
