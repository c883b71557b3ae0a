"""Both programs under core's engine: shared prefixes, forks, preemption, and little memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llama_core.builtin.reference import Reference
from llama_core.contracts.step import Plan
from llama_core.engine.engine import Engine
from llama_core.engine.request import Limits, Params, Request
from llama_core.plugins import Plugins
from llama_core.testing import drive, tiny

pytest.importorskip("torch", reason="torch is not installed")

from llama_plugin_torch.backend import TorchBackend

NUM = 12
LIMITS = Limits(max_rows=16, max_sequences=6, max_length=40)
# Four blocks of four tokens for each of six sequences would be wanted; there are sixteen in all.
TIGHT = Plan(kv_bytes=16 * 4 * 256, block_size=4, max_tokens=64, max_sequences=8)


def prompts() -> list[list[int]]:
    """Some with a beginning in common."""
    shared = drive.tokens(64, 9)
    return [shared + drive.tokens(64, n, n) for n in (1, 4, 3)] + [
        drive.tokens(64, n, n) for n in (2, 11, 6)
    ]


def answers(program: Any, texts: Sequence[Sequence[int]]) -> list[list[int]]:
    """Greedily, all at once."""
    engine = Engine(program, LIMITS, create=Plugins.load().create)
    found: list[list[int]] = [[] for _ in texts]
    for i, text in enumerate(texts):
        engine.add(Request(str(i), tuple(text), Params(max_tokens=NUM)))
    while engine.has_work:
        for update in engine.step():
            assert update.error is None
            found[int(update.request_id)] += update.tokens
    engine.close()
    return found


def test_the_backend_answers_as_the_reference_does() -> None:
    graph, weights = tiny.model()
    texts = prompts()
    expected = [answers(Reference().compile(graph, weights, Plan()), [text])[0] for text in texts]
    program = TorchBackend().compile(graph, weights, TIGHT)
    assert program.kv.num_blocks == 16
    assert answers(program, texts) == expected


def test_the_provider_answers_as_the_library_does(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    import torch
    from llama_plugin_torch.library import TransformersProvider

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **{k: v for k, v in tiny.CONFIG.items() if k != "model_type"},
        initializer_range=0.3,
        eos_token_id=None,
        bos_token_id=None,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    model.save_pretrained(tmp_path)
    expected = []
    for text in prompts():
        ids = torch.tensor([text])
        with torch.no_grad():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=NUM, do_sample=False
            )
        expected.append(found[0, len(text) :].tolist())
    program = TransformersProvider().open(tmp_path, TIGHT)
    assert answers(program, prompts()) == expected
