"""From files to a program: on a backend by way of a graph, or by a provider that needs none.

It knows the order of the steps, what may be asked for together, and what is decided where nothing
was asked for; how each step is done is for others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from llama_core.choice import BackendChoice, Choice, choose_backend
from llama_core.contracts.backend import SPEC as BACKEND
from llama_core.contracts.backend import Device
from llama_core.contracts.format import ModelFiles
from llama_core.contracts.parallelism import SPEC as PARALLELISM
from llama_core.contracts.program import SPEC as PROGRAM
from llama_core.contracts.program import Program, ProgramProvider
from llama_core.contracts.rewrite import SPEC as REWRITE
from llama_core.contracts.rewrite import Rewrite
from llama_core.contracts.step import Plan
from llama_core.engine import memory
from llama_core.engine.finding import (
    build_model,
    check_tokenizer,
    declared_context,
    has_architecture,
)
from llama_core.engine.fitting import check_fit
from llama_core.engine.providers import fallback_provider, named_provider
from llama_core.engine.ranks import Parallel, compile_ranks
from llama_core.engine.request import Limits
from llama_core.errors import ConfigError, LlamaError, MissingCapability
from llama_core.isolation import explain
from llama_core.model import rewrites
from llama_core.model.architectures import ARCHITECTURES, model_type, unknown
from llama_core.model.graph import Graph, GraphError
from llama_core.model.rewrites.act import SetAct, activations
from llama_core.model.tokenizer import Tokenizer
from llama_core.model.weights import Weights
from llama_core.plugins import Plugins


@dataclass(frozen=True, slots=True)
class Asked:
    """How a model is to be run, as far as somebody said; `load` says what each means."""

    backend: str | None = None
    backend_options: Mapping[str, Any] = field(default_factory=dict)
    rewrite: Sequence[Rewrite | tuple[str, Mapping[str, Any]]] = ()
    parallel: Parallel | None = None
    plan: Plan | None = None
    limits: Limits | None = None
    prefer_gpu: bool = True
    program: str | None = None
    program_options: Mapping[str, Any] = field(default_factory=dict)
    context: int | None = None
    act: str = "auto"

    def __post_init__(self) -> None:
        _kind("plan", self.plan, (Plan, type(None)), "a Plan")
        _kind("limits", self.limits, (Limits, type(None)), "Limits")
        _kind("parallel", self.parallel, (Parallel, type(None)), "a Parallel")
        _kind("rewrite", self.rewrite, (list, tuple), _REWRITES)
        for one in self.rewrite:
            named = isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)
            if not named and not (callable(one) and hasattr(one, "phase")):
                raise ConfigError(f"rewrite must be {_REWRITES}, and has {one!r}")

    def needs_graph(self) -> str | None:
        """What was asked for that only a backend gives, or None."""
        if self.backend is not None:
            return f"backend '{self.backend}' was asked for"
        if self.rewrite:
            return "rewrites change a graph, and a program provider has none"
        if self.parallel is not None:
            return "only a graph can be split over devices"
        return None


_REWRITES = 'a list of rewrites, or of names with options such as ("act", {"act": "q8:32"})'


def _kind(name: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kinds):
        raise ConfigError(f"{name} must be {wanted}, not {value!r}")


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program that runs, and under what decisions."""

    program: Program
    choice: Choice
    plan: Plan
    limits: Limits
    graph: Graph | None = None


def compile_model(
    plugins: Plugins, files: ModelFiles, tokenizer: Tokenizer, asked: Asked
) -> Compiled:
    """The program of a model. Where its architecture is unknown, that of a provider, by rule."""
    if asked.program is not None:
        if why := asked.needs_graph():
            raise ConfigError(
                f"the program provider '{asked.program}' cannot be used here: {why}",
                remedy="Ask for one of the two.",
            )
        provider, choice = named_provider(plugins, asked.program, files, asked.program_options)
        return _open(plugins, provider, choice, files, tokenizer, asked)
    if has_architecture(plugins, files):
        return _compile(plugins, files, tokenizer, asked)
    error = unknown(model_type(files.config), {*ARCHITECTURES, *plugins.names("architecture")})
    if why := asked.needs_graph():
        raise MissingCapability(f"{error.message}, and {why}", remedy=error.remedy)
    provider, choice = fallback_provider(plugins, files, error)
    return _open(plugins, provider, choice, files, tokenizer, asked)


def _compile(plugins: Plugins, files: ModelFiles, tokenizer: Tokenizer, asked: Asked) -> Compiled:
    wanted, declared = _limits(asked, None).max_length, declared_context(files.config)
    shorter = wanted if declared is not None and wanted < declared else None
    graph, weights = build_model(plugins, files, context_length=shorter)
    check_fit(graph, weights, files)
    limits = _limits(asked, graph.context_length)
    if limits.max_length < graph.context_length:  # which the config did not tell beforehand
        graph, weights = build_model(plugins, files, context_length=limits.max_length)
    check_tokenizer(tokenizer, graph.vocab_size, files)
    return compile_graph(plugins, graph, weights, asked)


def compile_graph(plugins: Plugins, graph: Graph, weights: Weights, asked: Asked) -> Compiled:
    """The program of a graph and its weights on a backend, rewritten as asked."""
    limits = _limits(asked, graph.context_length)
    made = [
        plugins.create(REWRITE, *one) if isinstance(one, tuple) else one for one in asked.rewrite
    ]
    choice = choose_backend(
        plugins, asked.backend, prefer_gpu=asked.prefer_gpu, options=asked.backend_options
    )
    device = choose_device(choice, asked.prefer_gpu)
    first = made if asked.parallel is None else [one for one in made if one.phase == "quantize"]
    rewritten, their = rewrites.apply([*first, *_act(choice, asked)], graph, weights)
    decided = replace(
        asked.plan or _plan(device, limits),
        act=activations(rewritten),
        rewrites=rewritten.rewrites,
    )
    plan, limits = memory.fit(
        rewritten,
        their,
        device,
        decided,
        limits,
        num_devices=1 if asked.parallel is None else len(asked.parallel.devices),
        decide_kv=asked.plan is None,
        decide_length=asked.context is None,
        announcements=plugins.announcements,
    )
    with (
        _blaming(plugins, BACKEND.kind, choice.name, "compile"),
        _with_a_way_out(choice, rewritten),
    ):
        if asked.parallel is None:
            program = choice.backend.compile(rewritten, their, plan)
            return Compiled(program, choice, plan, limits, rewritten)
        devices, options = asked.parallel.devices, asked.parallel.options
        strategy = plugins.create(PARALLELISM, asked.parallel.strategy, options)
        rest = [one for one in made if one not in first]
        split = compile_ranks(strategy, choice.backend, rewritten, their, plan, devices, rest)
        return Compiled(split, choice, plan, limits, rewritten)


def _open(
    plugins: Plugins,
    provider: ProgramProvider,
    choice: Choice,
    files: ModelFiles,
    tokenizer: Tokenizer,
    asked: Asked,
) -> Compiled:
    limits = _limits(asked, declared_context(files.config))
    device = choose_device(choice, asked.prefer_gpu) if choice.devices else None
    plan = asked.plan or _plan(device, limits)
    if device is not None:
        memory.check_weights(files.weights, device)
    if asked.plan is None:
        plan = replace(plan, kv_bytes=memory.likely_kv_bytes(files, limits, plan, device))
    with _blaming(plugins, PROGRAM.kind, choice.name, "open"):
        program = provider.open(files.path, plan)
    try:
        check_tokenizer(tokenizer, program.vocab_size, files)
    except BaseException:
        program.close()
        raise
    return Compiled(program, choice, plan, limits)


def _act(choice: BackendChoice, asked: Asked) -> list[Rewrite]:
    """The precision of activations: what was asked for, or what suits weights and backend."""
    if asked.act not in ("auto", "none"):
        return [SetAct(asked.act)]
    suits = asked.act == "auto" and getattr(choice.backend, "prefers_codes", False)
    return [SetAct("auto")] if suits else []


def choose_device(choice: Choice, prefer_gpu: bool) -> Device:
    """The first device of the preferred kind, or the first of any."""
    fitting = [one for one in choice.devices if (one.kind != "cpu") == prefer_gpu]
    return (fitting or list(choice.devices))[0]


def _plan(device: Device | None, limits: Limits) -> Plan:
    plan = Plan(max_tokens=limits.max_rows, max_sequences=limits.max_sequences)
    return plan if device is None else replace(plan, devices=(device.id,))


def _limits(asked: Asked, made_for: int | None) -> Limits:
    """What the engine is to serve: no position that the model was not made for."""
    limits, plan = asked.limits, asked.plan
    if limits is None:
        limits = Limits()
        if plan is not None:
            rows = min(limits.max_rows, plan.max_tokens)
            most = min(limits.max_sequences, plan.max_sequences)
            limits = replace(limits, max_rows=rows, max_sequences=most)
    if asked.context is None:
        return replace(limits, max_length=min(limits.max_length, made_for or limits.max_length))
    if asked.context < 2:
        raise ConfigError(f"the context must be at least 2 tokens, not {asked.context}")
    if made_for is not None and asked.context > made_for:
        raise ConfigError(
            f"a context of {asked.context} tokens was asked for, and the model was made for "
            f"{made_for}",
            remedy=f"Ask for {made_for} at most.",
        )
    return replace(limits, max_length=asked.context)


@contextmanager
def _with_a_way_out(choice: BackendChoice, graph: Graph) -> Iterator[None]:
    """Where a backend lacks an op, the error says what has all of them."""
    try:
        yield
    except GraphError as error:
        lacking = {node.op for node in graph.nodes if not choice.backend.supports(node)}
        if error.remedy is None and lacking and choice.name != "reference":
            ops = ", ".join(sorted(lacking))
            error.remedy = f"The NumPy reference computes every op, {ops} too: --backend reference"
        raise


@contextmanager
def _blaming(plugins: Plugins, kind: str, name: str, doing: str) -> Iterator[None]:
    """What a plugin raises while it loads is its fault, with its name; it may take its time."""
    try:
        yield
    except LlamaError:
        raise
    except Exception as error:
        owner = plugins.resolve(kind, name).plugin.name
        raise plugins.fault(owner, f"{kind} {name}.{doing}", explain(error), error) from error
