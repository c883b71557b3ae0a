"""What is said where a model does not compile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_core import Plugins
from llama_core.choice import BackendChoice
from llama_core.config import Config
from llama_core.contracts.backend import Device, Devices, Support
from llama_core.discovery import discover
from llama_core.engine import compiling
from llama_core.engine.compiling import Asked, compile_graph
from llama_core.model.graph import GraphError
from llama_core.testing import tiny


@pytest.mark.parametrize(("lacking", "remedy"), [("rope", "--backend reference"), ("none", None)])
def test_a_backend_that_lacks_an_op_is_not_the_end(
    monkeypatch: pytest.MonkeyPatch, lacking: str, remedy: str | None
) -> None:
    def refuse(*_: Any) -> Any:
        raise GraphError("backend 'narrow' cannot run llama", ["something is not computed"])

    backend = SimpleNamespace(
        supports=lambda node: Support("it has none" if node.op == lacking else None),
        compile=refuse,
    )
    devices = Devices((Device("cpu", "cpu", "a CPU", 1 << 30),))
    choice = BackendChoice("narrow", devices, "asked for by name", backend=backend)  # type: ignore[arg-type]
    monkeypatch.setattr(compiling, "choose_backend", lambda *_, **__: choice)
    with pytest.raises(GraphError) as caught:
        compile_graph(Plugins(discover([]), Config()), *tiny.model(), Asked())
    assert (caught.value.remedy or "").endswith(remedy or "")
    assert (caught.value.remedy is None) == (remedy is None)
