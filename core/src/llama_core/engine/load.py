"""From a name or a path to an engine that answers: files, graph, program, tokenizer.

It knows the order of the steps and asks the plugins for everything else. What was chosen for whom
stays readable in the result, since "which backend, and why" is the first thing a user asks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from llama_core.choice import Choice, choose_backend
from llama_core.contracts.architecture import SPEC as ARCHITECTURE
from llama_core.contracts.backend import Device
from llama_core.contracts.format import SPEC as FORMAT
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.model import SPEC as MODEL
from llama_core.contracts.parallelism import SPEC as PARALLELISM
from llama_core.contracts.program import Program
from llama_core.contracts.rewrite import SPEC as REWRITE
from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.step import Plan
from llama_core.engine.engine import Engine
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.ranks import Parallel, compile_ranks
from llama_core.engine.request import Limits, Params, Request
from llama_core.events import ModelLoaded, ModelUnloaded, Shutdown
from llama_core.model import rewrites
from llama_core.model.architectures import model_type, text_config
from llama_core.model.files import open_model
from llama_core.model.graph import Graph
from llama_core.model.tokenizer import Detokenizer, Tokenizer, open_tokenizer
from llama_core.model.weights import RenamedWeights, Weights
from llama_core.plugins import Plugins


class _Decoder:
    """The engine's view of a detokenizer."""

    def __init__(self, tokenizer: Tokenizer, show: Collection[str]) -> None:
        self._text = Detokenizer(tokenizer, show=show)

    def feed(self, token: int) -> str:
        return self._text.push(token)

    def finish(self) -> str:
        return self._text.finish()


class EngineTokenizer:
    """The engine's view of a model's tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def encode(self, text: str) -> Sequence[int]:
        return self.tokenizer.encode(text)

    def decode(self, tokens: Sequence[int]) -> str:
        return self.tokenizer.decode(tokens)

    def stream(self, show: Collection[str] = ()) -> _Decoder:
        return _Decoder(self.tokenizer, show)


@dataclass(slots=True)
class Loaded:
    """A model that answers, and how it came to be."""

    name: str
    plugins: Plugins
    files: ModelFiles
    graph: Graph
    tokenizer: Tokenizer
    choice: Choice
    plan: Plan
    program: Program
    engine: ThreadedEngine
    load_seconds: float

    def request(self, text: str, params: Params | None = None) -> Request:
        """A text as a request of its own, for any face of the engine."""
        return Request(uuid.uuid4().hex, tuple(self.tokenizer.encode(text)), params or Params())

    def close(self) -> None:
        """Give back threads and memory; twice is allowed."""
        if self.engine.ended is None:
            self.engine.close()
            self.program.close()
            self.plugins.emit(ModelUnloaded(model=self.name))
            self.plugins.emit(Shutdown(reason="closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def find_model(plugins: Plugins, reference: str | Path) -> ModelFiles:
    """The files that a path, or the name of a model plugin, stands for."""
    formats = {name: plugins.create(FORMAT, name) for name in plugins.names(FORMAT.kind)}
    sources = {
        name: lambda name=name: plugins.create(MODEL, name) for name in plugins.names(MODEL.kind)
    }
    return open_model(reference, formats, sources=sources)


def build_model(plugins: Plugins, files: ModelFiles) -> tuple[Graph, Weights]:
    """The graph of a model's config, and its weights under the graph's names."""
    kind = model_type(files.config)
    architecture = plugins.create(ARCHITECTURE, kind)
    graph = architecture.build(text_config(files.config))
    return graph, RenamedWeights(files.weights, architecture.rename)


def choose_device(choice: Choice, prefer_gpu: bool) -> Device:
    """The backend's first device of the preferred kind, or the first of any."""
    fitting = [one for one in choice.devices if (one.kind != "cpu") == prefer_gpu]
    return (fitting or list(choice.devices))[0]


def load(
    reference: str | Path,
    *,
    plugins: Plugins,
    backend: str | None = None,
    backend_options: Mapping[str, Any] | None = None,
    rewrite: Sequence[Rewrite | tuple[str, Mapping[str, Any]]] = (),
    parallel: Parallel | None = None,
    plan: Plan | None = None,
    limits: Limits | None = None,
    prefer_gpu: bool = True,
) -> Loaded:
    """Open, rewrite, compile and start. Nothing is left behind where a step fails.

    A rewrite is an object, or a name and options. Without a plan the model runs on the backend's
    first device of the kind that is preferred; `parallel` splits it over several.
    """
    began = time.monotonic()
    plugins.start()
    limits = limits or Limits()
    files = find_model(plugins, reference)
    graph, weights = build_model(plugins, files)
    made = [plugins.create(REWRITE, *one) if isinstance(one, tuple) else one for one in rewrite]
    tokenizer = open_tokenizer(files)
    choice = choose_backend(plugins, backend, prefer_gpu=prefer_gpu, options=backend_options)
    plan = plan or Plan(devices=(choose_device(choice, prefer_gpu).id,))
    program: Program
    if parallel is None:
        graph, weights = rewrites.apply(made, graph, weights)
        program = choice.backend.compile(graph, weights, plan)
    else:
        strategy = plugins.create(PARALLELISM, parallel.strategy, parallel.options)
        program = compile_ranks(
            strategy, choice.backend, graph, weights, plan, parallel.devices, made
        )
    engine = Engine(
        program,
        limits,
        plugins=plugins,
        tokenizer=EngineTokenizer(tokenizer),
        eos=tokenizer.eos,
        adapter_slots=plan.adapter_slots,
    )
    seconds = time.monotonic() - began
    name = Path(str(reference)).name
    plugins.emit(ModelLoaded(model=name, backend=choice.name, seconds=seconds))
    threaded = ThreadedEngine(engine)
    return Loaded(name, plugins, files, graph, tokenizer, choice, plan, program, threaded, seconds)
