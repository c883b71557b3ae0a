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

from llama_core.choice import Choice, check_combines
from llama_core.contracts.drafter import SPEC as DRAFTER
from llama_core.contracts.drafter import Drafter
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.preprocessor import Prompt
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
from llama_core.engine.processors import OF_CHATS, prepare
from llama_core.engine.ranks import Parallel
from llama_core.engine.request import Limits, Params, Request, Use
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
    drafter: tuple[str, Mapping[str, Any]] | None = None  # where one was asked for by name
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
        preprocessors: Sequence[Use] = (),
        tenant: str = "",
        priority: int = 0,
        deadline_seconds: float | None = None,
        adapter: int = -1,
    ) -> Request:
        """A text as a request of its own, for any face of the engine.

        A text that has its special tokens already, from a chat template say, needs none added.
        `preprocessors` see the text first, in their order. What follows is as in `Request`; with
        `pooling` the choice of the result has a hidden state instead of an answer.
        """
        if not isinstance(text, str):
            raise InvalidRequest(f"a prompt must be a text, not {text!r}", param="prompt")
        if preprocessors:
            text = self._prepared(text, preprocessors)
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

    def _prepared(self, text: str, uses: Sequence[Use]) -> str:
        """The text as the preprocessors leave it."""
        for use in uses:
            if use.name.rpartition("/")[2] in OF_CHATS:
                raise InvalidRequest(
                    f"preprocessor '{use.name}' is for the messages of a chat, and this is a text",
                    param="prompt",
                )
        prompt = prepare(self.plugins, uses, Prompt(text=text))
        if not isinstance(prompt.text, str) or prompt.messages:
            names = ", ".join(repr(use.name) for use in uses)
            left = "messages" if prompt.messages else "no text"
            raise InvalidRequest(
                f"the prompt is a text, and {left} came out of its preprocessors: {names}",
                param="prompt",
            )
        return prompt.text

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
    drafter: Drafter | str | tuple[str, Mapping[str, Any]] | None = None,
) -> Loaded:
    """Open, rewrite, compile and start. Nothing is left behind where a step fails.

    A rewrite is an object, or a name and options. Without a plan the model runs on the backend's
    first device of the kind that is preferred, with KV memory for its context; `parallel` splits it
    over several. `program` names a program provider to run it instead of a backend. `context` is
    how many tokens prompt and answer may have together: by default as many as `limits` say and the
    model was made for. `act` is how linears take their activations: `none` as they are, `q8:32` and
    the like in 8 bits, `auto` in 8 bits where weights are codes and the backend is faster then. A
    `drafter`, an object or a name with options or without, guesses tokens that the model verifies.
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
    named = (drafter, {}) if isinstance(drafter, str) else drafter
    guesses = _drafter(plugins, named)  # first: a mistake in it need not wait for the model
    files = find_model(plugins, reference)
    tokenizer = open_tokenizer(files)
    compiled = compile_model(plugins, files, tokenizer, asked)
    try:
        engine = _engine(plugins, tokenizer, compiled, asked, guesses)
        if isinstance(named, tuple):
            engine.drafting.asked_for(plugins, named[0])
        if guesses is not None:
            _check_drafter(plugins, compiled, engine.drafting.name)
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
        named if isinstance(named, tuple) else None,
    )


def _drafter(
    plugins: Plugins, given: Drafter | tuple[str, Mapping[str, Any]] | None
) -> Drafter | None:
    if isinstance(given, tuple):
        if len(given) != 2 or not isinstance(given[0], str):
            raise ConfigError(f"drafter must be a name, or a name and options, not {given!r}")
        return plugins.create(DRAFTER, *given)
    if given is not None and (why := DRAFTER.unfulfilled(given)):
        raise ConfigError(f"drafter must be a drafter or the name of one: {why}")
    return given


def _check_drafter(plugins: Plugins, compiled: Compiled, name: str) -> None:
    """Not every program verifies guesses."""
    what = f"drafter '{name}'"
    if getattr(compiled.program, "whole", False):
        raise ConfigError(f"{what} has nothing to guess: this model reads texts and continues none")
    check_combines(plugins, compiled.choice, "speculation", what)


def _engine(
    plugins: Plugins,
    tokenizer: Tokenizer,
    compiled: Compiled,
    asked: Asked,
    drafter: Drafter | None,
) -> Engine:
    engine = Engine(
        compiled.program,
        compiled.limits,
        plugins=plugins,
        tokenizer=EngineTokenizer(tokenizer),
        eos=tokenizer.eos,
        drafter=drafter,
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
