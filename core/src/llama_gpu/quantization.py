"""A model in fewer bytes, by a quantizer that a plugin of kind `quantizer` provides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llama_core.contracts.architecture import SPEC as ARCHITECTURE
from llama_core.contracts.format import SPEC as FORMAT
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.quantizer import Quantizer
from llama_core.contracts.rewrite import Phase
from llama_core.contracts.step import Plan
from llama_core.engine.load import build_model, find_model
from llama_core.engine.request import Limits
from llama_core.errors import ConfigError
from llama_core.model.architectures import model_type
from llama_core.model.graph import Graph
from llama_core.model.tokenizer import open_tokenizer
from llama_core.model.weights import RenamedWeights, Weights
from llama_core.plugins import Plugins
from llama_gpu.llama import LlamaGPU
from llama_gpu.missing import require

KIND = "quantizer"
ACT = "q8:32"  # activations in blocks of 32 numbers of 8 bits, the block of the common formats


@dataclass(frozen=True, slots=True)
class QuantizationConfig:
    """What becomes of the weights, and whether activations are rounded too as they come.

    The type is a plugin's quantizer by name. `dynamic` computes the inputs of linear layers in 8
    bits, with scales found at run time; without it only the weights are smaller.
    """

    quantization_type: str = "int8"
    dynamic: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)  # of the quantizer
    calibration: Sequence[str] = ()  # texts, for quantizers that look at what the model does

    def __post_init__(self) -> None:
        if not isinstance(self.quantization_type, str) or not self.quantization_type:
            raise ConfigError(
                f"quantization_type must be a name, not {self.quantization_type!r}",
                remedy='For instance "int8".',
            )
        if not isinstance(self.dynamic, bool):
            raise ConfigError(f"dynamic must be True or False, not {self.dynamic!r}")
        if isinstance(self.calibration, str):
            raise ConfigError("calibration must be a list of texts, not one text")


class QuantizationManager:
    """Loads and saves models as a `QuantizationConfig` says. What is missing is said at once."""

    def __init__(self, config: QuantizationConfig, *, plugins: Plugins | None = None) -> None:
        self.config = config
        self.plugins = Plugins.load() if plugins is None else plugins
        name = config.quantization_type
        require(self.plugins, KIND, name)
        self.quantizer: Quantizer = self.plugins.create(KIND, name, config.options)
        if self.quantizer.needs_calibration and not config.calibration:
            raise ConfigError(
                f"the quantizer '{name}' looks at what the model does, and has no texts for it",
                remedy="Give QuantizationConfig(calibration=[...]) texts like those it will see.",
            )

    def load(
        self,
        model: str | Path,
        prefer_gpu: bool = True,
        auto_detect_aws: bool = True,
        *,
        backend: str | None = None,
        plan: Plan | None = None,
        limits: Limits | None = None,
    ) -> LlamaGPU:
        """The model quantized in memory; it answers as any `LlamaGPU` does."""
        return LlamaGPU(
            model,
            prefer_gpu,
            auto_detect_aws,
            backend=backend,
            rewrite=[self._rewrite(model)],
            act=ACT if self.config.dynamic else "none",
            plan=plan,
            limits=limits,
            plugins=self.plugins,
        )

    def quantize_model(self, model: str | Path, path: str | Path) -> Path:
        """Write the model with quantized weights at a new path, in the format it came in.

        `dynamic` is no matter of files: it is chosen again by whoever loads them.
        """
        files = find_model(self.plugins, model)
        graph, weights = build_model(self.plugins, files)
        _, smaller = self._rewrite(model, files)(graph, weights)
        rename = self.plugins.create(ARCHITECTURE, model_type(files.config)).rename
        named = {rename(old): old for old in files.weights}
        written = RenamedWeights(smaller, named.get)
        path = Path(path)
        self.plugins.create(FORMAT, files.format).save(replace(files, weights=written), path)
        return path

    def _rewrite(self, model: str | Path, files: ModelFiles | None = None) -> _Quantize:
        texts = self.config.calibration if self.quantizer.needs_calibration else ()
        samples: list[list[int]] = []
        if texts:
            tokenizer = open_tokenizer(files or find_model(self.plugins, model))
            samples = [tokenizer.encode(text) for text in texts]
        return _Quantize(self.config.quantization_type, self.quantizer, samples)


class _Quantize:
    """A quantizer as the rewrite that it is."""

    phase: Phase = "quantize"
    neutral = False

    def __init__(self, name: str, quantizer: Quantizer, samples: Sequence[Sequence[int]]) -> None:
        self.name = name
        self.quantizer = quantizer
        self.samples = samples

    def __call__(self, graph: Graph, weights: Weights) -> tuple[Graph, Weights]:
        done = (*graph.rewrites, f"quantize({self.name})")
        smaller = self.quantizer.quantize(graph, weights, iter(self.samples))
        return replace(graph, rewrites=done), smaller
