"""A model made ready to be measured: with memory for just what is asked of it.

It may also be a config alone, with random weights in its shape, since speed does not ask what is
said; such a model has no tokenizer, and its engine gives tokens only.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llama_core.choice import Choice, choose_backend
from llama_core.contracts.architecture import SPEC as ARCHITECTURE
from llama_core.contracts.program import Program
from llama_core.contracts.step import Plan
from llama_core.engine.compiling import Asked, choose_device, compile_graph
from llama_core.engine.engine import Engine
from llama_core.engine.finding import (
    build_model,
    declared_context,
    find_model,
    has_architecture,
)
from llama_core.engine.load import load
from llama_core.engine.memory import kv_bytes_for
from llama_core.engine.request import Limits, Params
from llama_core.errors import ConfigError
from llama_core.model.architectures import model_type, text_config
from llama_core.model.generated import random_weights
from llama_core.model.graph import Graph
from llama_core.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a model is to be measured on, and with."""

    reference: str
    sequences: int  # at once
    tokens: int  # of each
    backend: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    rewrite: Sequence[tuple[str, Mapping[str, Any]]] = ()
    random: bool = False  # weights, in the shape that a config tells
    act: str = "auto"
    params: Params = field(default_factory=Params)  # of every answer, but for its length
    drafter: tuple[str, Mapping[str, Any]] | None = None


@dataclass(frozen=True, slots=True)
class Subject:
    """A model that answers, and its program by itself."""

    name: str
    choice: Choice
    plan: Plan
    program: Program
    engine: Engine  # for one caller; a thread that would drive it has nothing to do
    load_seconds: float
    close: Callable[[], None]
    params: Params = field(default_factory=Params)


def context_of(plugins: Plugins, reference: str, *, random: bool) -> int | None:
    """How many tokens a model was made for, as far as its config says."""
    if random:
        return declared_context(_config(Path(reference).expanduser())[0])
    return declared_context(find_model(plugins, reference).config)


def open_subject(plugins: Plugins, wanted: Wanted) -> Subject:
    """Load it, or make it up."""
    if wanted.random:
        return _made_up(plugins, wanted)
    files = find_model(plugins, wanted.reference)
    plan = None
    if has_architecture(plugins, files):
        graph, _ = build_model(plugins, files)
        choice = choose_backend(plugins, wanted.backend, options=wanted.options)
        plan = _plan(graph, choice, wanted)
    loaded = load(
        wanted.reference,
        plugins=plugins,
        backend=wanted.backend,
        backend_options=wanted.options,
        rewrite=wanted.rewrite,
        plan=plan,
        limits=_limits(wanted),
        act=wanted.act,
        drafter=wanted.drafter,
    )
    subject = Subject(
        loaded.name,
        loaded.choice,
        loaded.plan,
        loaded.program,
        loaded.engine.engine,
        loaded.load_seconds,
        loaded.close,
        wanted.params,
    )
    if getattr(loaded.program, "whole", False):
        subject.close()
        raise ConfigError(f"{loaded.name} looks both ways: it has no tokens a second to measure")
    kv = loaded.program.kv
    if kv.num_blocks < wanted.sequences * -(-wanted.tokens // kv.block_size):
        subject.close()
        raise ConfigError(
            f"{wanted.sequences} sequences of {wanted.tokens} tokens are asked for, and the "
            f"memory holds {kv.num_blocks} blocks of {kv.block_size} tokens",
            remedy="Ask for smaller batches or fewer tokens.",
        )
    return subject


def _made_up(plugins: Plugins, wanted: Wanted) -> Subject:
    plugins.start()
    config, name = _config(Path(wanted.reference).expanduser())
    graph = plugins.create(ARCHITECTURE, model_type(config)).build(text_config(config))
    choice = choose_backend(plugins, wanted.backend, options=wanted.options)
    plan = _plan(graph, choice, wanted)
    weights = random_weights(graph, seed=0)
    asked = Asked(
        wanted.backend,
        wanted.options,
        wanted.rewrite,
        plan=plan,
        limits=_limits(wanted),
        act=wanted.act,
    )
    began = time.monotonic()
    made = compile_graph(plugins, graph, weights, asked)
    engine = Engine(made.program, made.limits, plugins=plugins)
    seconds = time.monotonic() - began
    return Subject(
        f"{name} (random)", made.choice, made.plan, made.program, engine, seconds, engine.close,
        wanted.params,
    )  # fmt: skip


def _config(path: Path) -> tuple[dict[str, Any], str]:
    """A model's config, and a name for its shape."""
    path = path / "config.json" if path.is_dir() else path
    try:
        config = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read a model's config from {path}: {error}",
            remedy="Give a config.json, or a folder with one.",
        ) from None
    if not isinstance(config, dict):
        raise ConfigError(f"{path} holds a {type(config).__name__} where a config is an object")
    return config, path.resolve().parent.name if path.name == "config.json" else path.stem


def _limits(wanted: Wanted) -> Limits:
    return Limits(max_sequences=wanted.sequences, max_length=wanted.tokens)


def _plan(graph: Graph, choice: Choice, wanted: Wanted) -> Plan:
    if wanted.tokens > graph.context_length:
        raise ConfigError(
            f"{wanted.tokens} tokens of prompt and answer are asked for, and the model was made "
            f"for {graph.context_length}",
            remedy="Ask for fewer with --prompt-tokens and --max-tokens.",
        )
    limits = _limits(wanted)
    plan = Plan(
        devices=(choose_device(choice, prefer_gpu=True).id,),
        max_tokens=limits.max_rows,
        max_sequences=wanted.sequences,
    )
    # A block more a sequence, since answers grow into the next one before they end.
    longest = wanted.sequences * (wanted.tokens + plan.block_size)
    return Plan(
        devices=plan.devices,
        kv_bytes=kv_bytes_for(graph, longest, plan),
        max_tokens=plan.max_tokens,
        max_sequences=plan.max_sequences,
    )
