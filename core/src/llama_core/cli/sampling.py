"""How a command line says how to choose tokens: options, a model's own defaults, and `Params`.

What is said beats what the model's generation_config.json says, and that beats greedy choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click

from llama_core.cli.named import METAVAR, SAMPLER, TRANSFORM, uses
from llama_core.cli.text import Text
from llama_core.engine.chains import contradiction, standard
from llama_core.engine.request import Link, Params

F = TypeVar("F", bound=Callable[..., Any])

# name -> its type, and what --help says
NUMBERS: Mapping[str, tuple[type[int] | type[float], str]] = {
    "temperature": (float, "0 is greedy."),
    "top_k": (int, "Choose among the k likeliest; 0 among all."),
    "top_p": (float, "Choose among the likeliest that make up p."),
    "min_p": (float, "Drop what is less than p times as likely as the likeliest."),
    "repetition_penalty": (float, "Above 1: say less again."),
    "presence_penalty": (float, "Above 0: say nothing twice."),
    "frequency_penalty": (float, "Above 0: the less, the more often it was said."),
    "max_tokens": (int, "The longest answer."),
    "seed": (int, "Makes a sampled answer repeatable."),
}
# What a value must be, where not any number will do; the capability behind it says so too, later.
BOUNDS: Mapping[str, click.ParamType] = {
    "temperature": click.FloatRange(0, 100),
    "top_k": click.IntRange(min=0),
    "top_p": click.FloatRange(0, 1, min_open=True),
    "min_p": click.FloatRange(0, 1),
    "repetition_penalty": click.FloatRange(0, 100, min_open=True),
    "presence_penalty": click.FloatRange(-100, 100),
    "frequency_penalty": click.FloatRange(-100, 100),
    "max_tokens": click.IntRange(1, 2**31 - 1),
    "seed": click.IntRange(0, 2**64 - 1),
}
_OF_SAMPLING = ("top_k", "top_p", "min_p")  # they do nothing to a greedy choice
_OF_MODELS = ("temperature", *_OF_SAMPLING, "repetition_penalty")
_NOT_LINKS = ("max_tokens", "seed", "stop", "transform", "sampler", "postprocessor")


def chain_options(command: F) -> F:
    """Add `--sampler` and `--transform`."""
    text = "Choose a token by this, from what transforms and numbers left, e.g. mirostat."
    command = click.option("--sampler", type=SAMPLER, metavar=METAVAR, help=text)(command)
    text = "Change the logits by this, behind what the numbers do; several in their order."
    transform = click.option(
        "--transform", multiple=True, type=TRANSFORM, metavar=METAVAR, help=text
    )
    return transform(command)


def sampling_options(command: F) -> F:
    """Add `--sampler`, `--transform`, an option for each number, and `--stop`; none has a default
    of its own."""
    command = chain_options(command)
    text = "End the answer before this text."
    stop = click.option("--stop", multiple=True, type=Text(), help=text, callback=_not_empty)
    command = stop(command)
    for name, (_, text) in reversed(list(NUMBERS.items())):
        flag = f"--{name.replace('_', '-')}"
        command = click.option(flag, type=BOUNDS[name], help=text)(command)
    return command


def _not_empty(_: click.Context, __: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    if "" in given:
        raise click.BadParameter("an empty text is found everywhere")
    return given


def of_model(generation: Mapping[str, Any]) -> dict[str, float]:
    """What a generation_config.json says of sampling."""
    found = {
        name: generation[name]
        for name in _OF_MODELS
        if isinstance(generation.get(name), int | float)
    }
    if generation.get("do_sample") is False:
        return {k: v for k, v in found.items() if k == "repetition_penalty"}
    if generation.get("do_sample") or "temperature" in found:
        found.setdefault("temperature", 1.0)
    return found


def chosen(said: Mapping[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """What holds, by name. `said` may hold None for what was not said."""
    said = {name: value for name, value in said.items() if value not in (None, ())}
    sampler, own = said.get("sampler"), of_model(generation)
    if sampler is not None and not own.get("temperature"):
        own["temperature"] = 1.0  # a sampler that was asked for chooses
    found = {"temperature": 0.0, **own, **said}
    why = contradiction(
        [name.replace("_", "-") for name in said],
        found["temperature"],
        [Link(*pair) for pair in said.get("transform", ())],
        None if sampler is None else Link(*sampler),
    )
    if why is not None:
        raise click.UsageError(why)
    if found["temperature"] == 0:
        found = {name: value for name, value in found.items() if name not in _OF_SAMPLING}
    return found


def params(said: Mapping[str, Any], generation: Mapping[str, Any]) -> Params:
    """The parameters of a request: what is chosen, as a chain."""
    found = chosen(said, generation)
    numbers = {name: value for name, value in found.items() if name not in _NOT_LINKS}
    transforms, sampler = standard(
        **numbers,
        transforms=[Link(*pair) for pair in found.get("transform", ())],
        sampler=Link(*found["sampler"]) if "sampler" in found else None,
    )
    return Params(
        max_tokens=found.get("max_tokens"),
        seed=found.get("seed"),
        stop=tuple(found.get("stop", ())),
        transforms=transforms,
        sampler=sampler,
        postprocessors=uses(found.get("postprocessor", ())),
    )
