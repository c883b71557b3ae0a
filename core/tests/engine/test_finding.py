"""A fault in a plugin's architecture is the plugin's, with its place; never a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core import Plugins, hookimpl
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.finding import build_model, find_model
from llama_core.errors import PluginFault
from llama_core.model.architectures import create

from .tinymodel import tiny_model


def divided(*_: object) -> Any:
    return 1 / 0


@pytest.mark.parametrize(
    ("build", "rename", "says"),
    [
        (divided, None, r"architecture llama.build: ZeroDivisionError.*test_finding.py:\d+"),
        (lambda config: None, None, "architecture llama.build: it gave None, which is no Graph"),
        (None, divided, r"architecture llama.rename: ZeroDivisionError.*test_finding.py:\d+"),
        (None, lambda tensor: 7, "architecture llama.rename: TypeError: .*is 7, no text"),
    ],
)
def test_what_an_architecture_does_wrong_names_its_plugin(
    tmp_path: Path,
    build: Callable[[Any], Any] | None,
    rename: Callable[[str], Any] | None,
    says: str,
) -> None:
    own = create("llama")
    made = SimpleNamespace(build=build or own.build, rename=rename or own.rename)

    class Module:
        @hookimpl
        def llama_create_architecture(self) -> Any:
            return made

    plugins = Plugins(discover([]), Config())
    provides = [{"kind": "architecture", "name": "llama", "api": 1}]
    plugins.register(Module(), {"name": "mine", "summary": "Mine", "provides": provides})
    files = find_model(plugins, tiny_model(tmp_path / "tiny"))
    with pytest.raises(PluginFault, match=f"plugin 'mine' failed in {says}"):
        build_model(plugins, files)
