"""One thread of torch for every test: the machine is shared, and sums keep one order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture
def core_logits() -> Callable[[Path, Sequence[int]], Any]:
    """What core's own reference makes of a folder: the logits after each token."""
    from llama_core.builtin.reference import Reference
    from llama_core.builtin.safetensors_format import SafetensorsFormat
    from llama_core.contracts.step import Plan
    from llama_core.engine.fitting import check_fit
    from llama_core.model.architectures import create
    from llama_core.model.weights import RenamedWeights
    from llama_core.testing import drive

    def logits(folder: Path, tokens: Sequence[int]) -> Any:
        files = SafetensorsFormat().open(folder)
        architecture = create(files.config["model_type"])
        graph = architecture.build(files.config)
        weights = RenamedWeights(files.weights, architecture.rename)
        check_fit(graph, weights, files)
        plan = Plan(kv_bytes=1 << 22, block_size=4, max_tokens=64, max_sequences=2)
        return drive.run(Reference().compile(graph, weights, plan), drive.Part(tokens))[0]

    return logits
