"""A quantized model: loaded, saved, calibrated, and what is said where no plugin can."""

from __future__ import annotations

from pathlib import Path

import pytest

from llama_core.errors import LlamaError
from llama_core.plugins import Plugins
from llama_core.testing.site import Site
from llama_gpu import LlamaGPU
from llama_gpu.quantization import QuantizationConfig, QuantizationManager

QUANTIZER = """
from llama_core import hookimpl

seen = []

class Rounding:
    def __init__(self, name, plugins):
        self.needs_calibration = name == "calibrated"
        self.plugins = plugins
    def quantize(self, graph, weights, calibration):
        seen.extend(calibration)
        options = {"encoding": "q8:row"}
        return self.plugins.create("rewrite", "reencode", options)(graph, weights)[1]

@hookimpl
def llama_create_quantizer(name, plugins):
    return Rounding(name, plugins)
"""


@pytest.fixture
def site(site: Site) -> Site:
    provides = [{"kind": "quantizer", "name": name, "api": 1} for name in ("int8", "calibrated")]
    site.add("rounding", {"provides": provides}, {"llama_plugin_rounding/__init__.py": QUANTIZER})
    return site


def encodings(llama: LlamaGPU) -> set[str]:
    weights = llama._loaded.program._weights
    return {weights.about(name)[1].name for name in weights if "proj" in name}


def test_it_is_quantized_in_memory(
    folder: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    with LlamaGPU(folder, plugins=plugins) as whole:
        text = whole.infer("Once upon a time", max_tokens=1)
    config = QuantizationConfig(quantization_type="int8", dynamic=True)
    with QuantizationManager(config, plugins=plugins).load(folder) as llama:
        assert llama.infer("Once upon a time", max_tokens=1) == text, "8 bits change little"
        acts = {n.attrs["act"] for n in llama._loaded.graph.of("linear") if n.name != "lm_head"}
        assert acts == {"q8:32"}
        assert llama.get_backend_info()["rewrites"] == ["quantize(int8)", "act(q8:32)"]
    # Also where the backend would rather have it otherwise.
    kind = type(plugins.create("backend", "reference"))
    monkeypatch.setattr(kind, "prefers_codes", True, raising=False)
    still = QuantizationConfig(quantization_type="int8", dynamic=False)
    with QuantizationManager(still, plugins=plugins).load(folder) as llama:
        assert {n.attrs["act"] for n in llama._loaded.graph.of("linear")} == {"none"}
        assert encodings(llama) == {"q8:row"}


def test_it_is_saved_and_answers_the_same(folder: Path, plugins: Plugins, tmp_path: Path) -> None:
    manager = QuantizationManager(QuantizationConfig(dynamic=False), plugins=plugins)
    with manager.load(folder) as llama:
        expected = llama.infer("Once upon a time", max_tokens=12)
    saved = manager.quantize_model(folder, tmp_path / "small")
    with LlamaGPU(saved, plugins=plugins) as llama:
        assert llama.infer("Once upon a time", max_tokens=12) == expected
        assert encodings(llama) == {"q8:row"}
        small = llama.get_memory_usage()["weights_file_bytes"]
    with LlamaGPU(folder, plugins=plugins) as llama:
        assert small < 0.8 * llama.get_memory_usage()["weights_file_bytes"]
    with pytest.raises(LlamaError, match="already there"):
        manager.quantize_model(folder, tmp_path / "small")


def test_calibration_texts_come_as_tokens(folder: Path, plugins: Plugins) -> None:
    with pytest.raises(LlamaError, match="looks at what the model does, and has no texts"):
        QuantizationManager(QuantizationConfig("calibrated"), plugins=plugins)
    config = QuantizationConfig("calibrated", calibration=["Once", "Twice"])
    with QuantizationManager(config, plugins=plugins).load(folder) as llama:
        import llama_plugin_rounding

        tokens = [llama._loaded.tokenizer.encode(text) for text in config.calibration]
        assert llama_plugin_rounding.seen == tokens


def test_a_quantizer_that_nobody_has_comes_with_the_way_to_get_it(plugins: Plugins) -> None:
    with pytest.raises(LlamaError, match="pip install llama-plugin-") as caught:
        QuantizationManager(QuantizationConfig(quantization_type="int7"), plugins=plugins)
    assert caught.value.code == "capability_missing"
    assert "Did you mean 'int8'" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"quantization_type": ""}, "quantization_type must be a name"),
        ({"dynamic": "yes"}, "dynamic must be True or False, not 'yes'"),
        ({"calibration": "Once"}, "calibration must be a list of texts"),
    ],
)
def test_a_config_says_what_is_wrong(arguments: dict, words: str) -> None:
    with pytest.raises(LlamaError, match=words):
        QuantizationConfig(**arguments)
