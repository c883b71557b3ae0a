"""The plugin's hooks. Importing this imports neither torch nor transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_core import hookimpl

if TYPE_CHECKING:
    from llama_core.plugins import Plugins
    from llama_plugin_torch.backend import TorchBackend
    from llama_plugin_torch.library import TransformersProvider


@hookimpl
def llama_create_backend(
    name: str, options: Mapping[str, Any], plugins: Plugins
) -> TorchBackend | None:
    if name != "torch":
        return None
    from llama_plugin_torch.backend import TorchBackend

    return TorchBackend(**options, announcements=plugins.announcements)


@hookimpl
def llama_create_program(
    name: str, options: Mapping[str, Any], plugins: Plugins
) -> TransformersProvider | None:
    if name != "transformers":
        return None
    from llama_plugin_torch.library import TransformersProvider

    return TransformersProvider(**options, announcements=plugins.announcements)
