"""The perplexity of the small trained model is the one that transformers gives for its windows."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_core import Plugins
from llama_core.config import Config
from llama_core.discovery import discover
from llama_core.engine.evaluate import cut, evaluate
from llama_core.engine.load import load

FIXTURES = Path(__file__).parent / "fixtures"
# transformers 5.23.0 and torch 2.13.0 in float32 on `unseen.txt`: windows of <s> and 63 tokens,
# log-softmax in float64, the mean over the 20 whole windows.
TOLD = 3.3546293


def test_the_perplexity_is_that_of_transformers() -> None:
    plugins = Plugins(discover([]), Config())
    with load(FIXTURES / "tiny", plugins=plugins, backend="reference") as loaded:
        text = (FIXTURES / "unseen.txt").read_text("utf-8")
        windows = cut(loaded.tokenizer, text, 64, loaded.program.vocab_size)
        own, _, _ = evaluate(windows, loaded)
    assert windows.windows_WN.shape == (20, 64)
    assert windows.left_out == 30
    assert own.perplexity == pytest.approx(TOLD, rel=1e-6)
