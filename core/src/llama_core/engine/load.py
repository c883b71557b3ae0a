"""From a name or a path to an engine that answers: files, tokenizer, program, engine.

It puts the parts together and asks others for each. What was chosen for whom stays readable in the
result, since "which backend, and why" is the first thing a user asks.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from llama_core.choice import Choice
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.program import Program
from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.step import Plan
from llama_core.engine.compiling import Asked, Compiled, choose_device, compile_model
from llama_core.engine.engine import Engine
from llama_core.engine.faces import ThreadedEngine
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.finding import (
    EngineTokenizer,
    build_model,
    declared_context,
    find_model,
    model_name,
)
from llama_core.engine.ranks import Parallel
from llama_core.engine.request import Limits, Params, Request
from llama_core.errors import ConfigError
from llama_core.events import ModelLoaded, ModelUnloaded, Shutdown
from llama_core.model.graph import Graph
from llama_core.model.tokenizer import Tokenizer, open_tokenizer
from llama_core.plugins import Plugins

__all__ = ["EngineTokenizer", "Loaded", "build_model", "choose_device", "find_model", "load"]


@dataclass(slots=True)
class Loaded:
    """A model that answers, and how it came to be."""

    name: str
    plugins: Plugins
    files: ModelFiles
    graph: Graph | None  # None where a program provider runs the model
    tokenizer: Tokenizer
    choice: Choice
    program: Program
    engine: ThreadedEngine
    load_seconds: float
    plan: Plan = field(default_factory=Plan)  # with what was decided where it was left open
    closed: bool = False

    @property
    def context_length(self) -> int:
        """How many tokens prompt and answer may have together."""
        return self.engine.engine.limits.max_length

    @property
    def declared_context(self) -> int | None:
        """How many the model was made for, where its config says it."""
        return declared_context(self.files.config)

    def request(
        self,
        text: str,
        params: Params | None = None,
        *,
        add_special: bool = True,
        pooling: Literal["last", "mean"] | None = None,
        tenant: str = "",
        priority: int = 0,
        deadline_seconds: float | None = None,
        adapter: int = -1,
    ) -> Request:
        """A text as a request of its own, for any face of the engine.

        A text that has its special tokens already, from a chat template say, needs none added.
        What follows is as in `Request`; with `pooling` the choice of the result has a hidden state
        instead of an answer.
        """
        if not isinstance(text, str):
            raise InvalidRequest(f"a prompt must be a text, not {text!r}", param="prompt")
        prompt = tuple(self.tokenizer.encode(text, add_special=add_special))
        return Request(
            uuid.uuid4().hex,
            prompt,
            Params() if params is None else params,
            tenant=tenant,
            priority=priority,
            deadline_seconds=deadline_seconds,
            adapter=adapter,
            pooling=pooling,
        )

    def close(self) -> None:
        """Give back threads and memory; twice is allowed, and in a forked child nothing is done."""
        if self.closed or self.engine.forked:
            return
        self.closed = True
        self.engine.close()
        self.program.close()
        self.plugins.emit(ModelUnloaded(model=self.name))
        self.plugins.emit(Shutdown(reason="closed"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


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
    program: str | None = None,
    program_options: Mapping[str, Any] | None = None,
    context: int | None = None,
    act: str = "auto",
) -> Loaded:
    """Open, rewrite, compile and start. Nothing is left behind where a step fails.

    A rewrite is an object, or a name and options. Without a plan the model runs on the backend's
    first device of the kind that is preferred, with KV memory for its context; `parallel` splits it
    over several. `program` names a program provider to run it instead of a backend. `context` is
    how many tokens prompt and answer may have together: by default as many as `limits` say and the
    model was made for. `act` is how linears take their activations: `none` as they are, `q8:32` and
    the like in 8 bits, `auto` in 8 bits where weights are codes and the backend is faster then.
    """
    began = time.monotonic()
    asked = Asked(
        backend,
        backend_options or {},
        rewrite,
        parallel,
        plan,
        limits,
        prefer_gpu,
        program,
        program_options or {},
        context,
        act,
    )
    plugins.start()
    files = find_model(plugins, reference)
    tokenizer = open_tokenizer(files)
    compiled = compile_model(plugins, files, tokenizer, asked)
    try:
        engine = _engine(plugins, tokenizer, compiled, asked)
    except BaseException:
        compiled.program.close()
        raise
    seconds = time.monotonic() - began
    name = model_name(reference)
    plugins.emit(ModelLoaded(model=name, backend=compiled.choice.name, seconds=seconds))
    return Loaded(
        name,
        plugins,
        files,
        compiled.graph,
        tokenizer,
        compiled.choice,
        compiled.program,
        ThreadedEngine(engine),
        seconds,
        compiled.plan,
    )


def _engine(plugins: Plugins, tokenizer: Tokenizer, compiled: Compiled, asked: Asked) -> Engine:
    engine = Engine(
        compiled.program,
        compiled.limits,
        plugins=plugins,
        tokenizer=EngineTokenizer(tokenizer),
        eos=tokenizer.eos,
        adapter_slots=compiled.plan.adapter_slots,
        in_flight=compiled.plan.in_flight,
    )
    have, wanted = engine.limits.max_length, compiled.limits.max_length
    if have < wanted:
        held = f"{compiled.plan.kv_bytes} bytes of KV memory hold {have} tokens, not {wanted}"
        if asked.context is not None:
            raise ConfigError(
                f"the context of {wanted} tokens cannot be had: {held}",
                remedy=f"Raise kv_bytes, or ask for a context of {have}.",
            )
        tell = plugins.announcements
        (tell.fallback if asked.plan is None else tell.note)(
            f"prompt and answer may have {have} tokens together: {held}"
        )
    return engine
