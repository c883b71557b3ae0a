"""Where the process runs, as far as the plugins of kind `machine` know. Not knowing is no error."""

from __future__ import annotations

from typing import Any

from llama_core.contracts.machine import SPEC, MachineFacts
from llama_core.errors import LlamaError, pip_install
from llama_core.plugins import Plugins


def detect(plugins: Plugins) -> dict[str, Any]:
    """The name and facts of this machine, or the reason why they are not known."""
    asked, said = plugins.names(SPEC.kind), []
    for name in asked:
        try:
            machine = plugins.create(SPEC, name)
            with plugins.guard(plugins.resolve(SPEC.kind, name).plugin.name, f"machine {name}"):
                found = machine.describe()
        except LlamaError as error:
            said.append(f"{name}: {error}")
            continue
        if isinstance(found, MachineFacts):
            return {"known": True, "name": found.name, "facts": dict(found.facts), "by": name}
        said.append(f"{name}: " + ("not its kind of machine" if found is None else "no facts"))
    if not asked:
        said = [
            f"no plugin that recognizes machines is installed; one is added with: {pip_install()}"
        ]
    return {"known": False, "reason": "; ".join(said)}
