"""Capabilities by name on a command line: how they are written, tried, and told of afterwards.

What each does is its plugin's business. A name or an option that is wrong is found before a model
is loaded for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from llama_core.cli.app import Session
from llama_core.cli.text import Text
from llama_core.engine.chains import contradiction
from llama_core.engine.request import Link, Params, Use

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from llama_core.engine.engine import Engine
    from llama_core.engine.load import Loaded
    from llama_core.plugins import Plugins

F = TypeVar("F", bound=Callable[..., Any])
Pair = tuple[str, dict[str, Any]]

TEXT = Text()
METAVAR = "NAME[:OPTION=VALUE,…]"
# Of a chat's messages: what says it better than a preprocessor by name would.
_OF_CHATS = {
    "chat-template": "`llama chat` uses the model's own, or another: --chat-template FILE",
    "system-prompt": "`llama chat --system TEXT` says it",
}


class Named(click.ParamType):
    """`NAME` or `NAME:OPTION=VALUE,OPTION=VALUE`; a value is JSON, or else text up to a comma."""

    def __init__(self, kind: str, example: str) -> None:
        self.name = kind
        self.example = example

    def convert(self, value: Any, param: Any, ctx: Any) -> Pair:
        if isinstance(value, tuple):
            return value
        name, _, rest = TEXT.convert(value, param, ctx).partition(":")
        if not name:
            self.fail(f"it names no {self.name}; an example: {self.example}", param, ctx)
        options: dict[str, Any] = {}
        at = 0
        while at < len(rest):
            key, equals, _ = rest[at:].partition("=")
            if not equals or not key or "," in key:
                part = rest[at:].partition(",")[0]
                said = f"{part!r} is no OPTION=VALUE; an example: {self.example}"
                self.fail(said, param, ctx)
            if key in options:
                self.fail(f"the option {key!r} is said twice", param, ctx)
            options[key], at = _value(rest, at + len(key) + 1)
        return name, options

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = ctx.ensure_object(Session).plugins.names(self.name)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


def _value(text: str, at: int) -> tuple[Any, int]:
    """The value that begins here, and where the next option does."""
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
        if text[end : end + 1] in ("", ","):
            return value, end + 1
    except (ValueError, RecursionError):
        pass
    end = text.find(",", at)
    end = len(text) if end < 0 else end
    return text[at:end], end + 1


def spelled(pair: tuple[str, Mapping[str, Any]]) -> str:
    """As it would be typed."""
    name, options = pair
    said = ",".join(f"{key}={_spelled(value)}" for key, value in options.items())
    return f"{name}:{said}" if said else name


def _spelled(value: Any) -> str:
    if isinstance(value, str) and _value(value, 0) == (value, len(value) + 1):
        return value
    return json.dumps(value, ensure_ascii=False)


SAMPLER = Named("sampler", "mirostat:tau=3")
TRANSFORM = Named("transform", "dry:multiplier=0.8")
POSTPROCESSOR = Named("postprocessor", "reasoning")
PREPROCESSOR = Named("preprocessor", "NAME:OPTION=VALUE")
DRAFTER = Named("drafter", "ngram:longest=3")
NAMED = {each.name: each for each in (TRANSFORM, SAMPLER, POSTPROCESSOR)}  # of one request
MANY = ("transform", "postprocessor")  # may be several


postprocessor_option = click.option(
    "--postprocessor", multiple=True, type=POSTPROCESSOR, metavar=METAVAR,
    help="Pass the answer through this; several in their order.",
)  # fmt: skip
preprocessor_option = click.option(
    "--preprocessor", multiple=True, type=PREPROCESSOR, metavar=METAVAR,
    help="Show the prompt to this first; several in their order.",
)  # fmt: skip


def processor_options(command: F) -> F:
    """Add `--preprocessor` and `--postprocessor`."""
    return preprocessor_option(postprocessor_option(command))


def uses(pairs: Iterable[Pair]) -> tuple[Use, ...]:
    """Processors that were asked for by name: without one of them nothing is answered."""
    return tuple(Use(name, options, required=True) for name, options in pairs)


def check(plugins: Plugins, said: Mapping[str, Any], preprocessors: Iterable[Use] = ()) -> None:
    """Refuse what is not there, what its options do not fit, and what contradicts itself.

    Each capability is made once for this and dropped.
    """
    for use in preprocessors:
        better = _OF_CHATS.get(use.name.rpartition("/")[2])
        if better is not None:
            raise click.UsageError(
                f"preprocessor '{use.name}' is for the messages of a chat: {better}"
            )
        plugins.create("preprocessor", use.name, use.options)
    for pair in said.get("postprocessor") or ():
        plugins.create("postprocessor", *pair)
    own = [Link(*pair) for pair in said.get("transform") or ()]
    for link in own:
        plugins.create("transform", link.name, link.options)
    if said.get("sampler") is None:
        return
    sampler = Link(*said["sampler"])
    made = plugins.create("sampler", sampler.name, sampler.options)
    numbers = [name.replace("_", "-") for name, value in said.items() if value is not None]
    is_argmax = getattr(made, "is_argmax", False)
    why = contradiction(numbers, 1.0, own, sampler, is_argmax=is_argmax)
    if why is not None:
        raise click.UsageError(why)


def used(loaded: Loaded, params: Params, preprocessors: Iterable[Use] = ()) -> dict[str, Any]:
    """What an answer went through, by name, with the plugin that answered for it."""

    def told(kind: str, one: object) -> dict[str, Any]:
        assert isinstance(one, Link | Use)  # a command line names all it uses
        owner = loaded.plugins.resolve(kind, one.name).plugin.name
        return {"name": one.name, "plugin": owner, "options": dict(one.options)}

    return {
        "preprocessors": [told("preprocessor", one) for one in preprocessors],
        "transforms": [told("transform", one) for one in params.transforms],
        "sampler": told("sampler", params.sampler),
        "postprocessors": [told("postprocessor", one) for one in params.postprocessors],
        "drafter": drafting(loaded.engine.engine, loaded.drafter),
    }


def drafting(engine: Engine, asked: tuple[str, Mapping[str, Any]] | None) -> dict[str, Any] | None:
    """What a drafter that was asked for has guessed, and how much of that was right."""
    if asked is None:
        return None
    found = engine.drafting
    return {
        "name": found.name,
        "plugin": found.owner,  # which a fault may have put in quarantine since
        "options": dict(asked[1]),
        "drafts": found.num_drafts,
        "draft_tokens": found.num_draft_tokens,
        "accepted_tokens": found.num_accepted,
        "fault": found.fault,
    }


def drafted(facts: Mapping[str, Any] | None) -> list[str]:
    """The same in a line, where there was one."""
    if facts is None:
        return []
    right = f"{facts['accepted_tokens']:,} of {facts['draft_tokens']:,} guessed tokens"
    return [f"drafter {facts['name']}: {right} were right"]
