"""`llama run`: one prompt in, one answer out, streamed to a terminal or whole under `--json`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.engine.faces import Result
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Link, Params, Request

# option -> transform and the name of its option, in the order of the chain
CHAIN = {
    "repetition_penalty": ("repetition", "penalty"),
    "temperature": ("temperature", "temperature"),
    "top_k": ("top-k", "k"),
    "top_p": ("top-p", "p"),
    "min_p": ("min-p", "p"),
}


@click.command("run", epilog='Example: llama run ./model "Once upon a time" --max-tokens 50')
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--backend", help="The backend to run on; the best that has a device by default.")
@click.option("--max-tokens", type=int, default=256, show_default=True)
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=int)
@click.option("--top-p", type=float)
@click.option("--min-p", type=float)
@click.option("--repetition-penalty", type=float)
@click.option("--seed", type=int, help="Makes a sampled answer repeatable.")
@click.option("--stop", multiple=True, help="End the answer before this text.")
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    prompt: str | None,
    backend: str | None,
    max_tokens: int,
    seed: int | None,
    stop: tuple[str, ...],
    as_json: bool,
    **chain: float | None,
) -> None:
    """Complete PROMPT (or standard input) with MODEL: a folder, a file, or a model plugin."""
    text = sys.stdin.read() if prompt is None else prompt
    params = Params(
        max_tokens=max_tokens,
        seed=seed,
        stop=stop,
        transforms=_transforms(chain),
        sampler=Link("sample" if chain["temperature"] else "greedy"),
    )
    with load(model, plugins=session.plugins, backend=backend) as loaded:
        request = Request("run", tuple(loaded.tokenizer.encode(text)), params)
        result, first, seconds = _answer(loaded, request, show=not as_json)
        emit(_facts(loaded, result, first, seconds), as_json, lambda: ())


def _transforms(chain: dict[str, float | None]) -> tuple[Link, ...]:
    if not chain["temperature"]:
        chain = {**chain, "temperature": None}
        idle = [key for key in ("top_k", "top_p", "min_p") if chain[key] is not None]
        if idle:
            option = idle[0].replace("_", "-")
            raise click.UsageError(f"--{option} does nothing at --temperature 0: give another one")
    return tuple(
        Link(name, {option: chain[key]})
        for key, (name, option) in CHAIN.items()
        if chain[key] is not None
    )


def _answer(loaded: Loaded, request: Request, *, show: bool) -> tuple[Result, float, float]:
    began = time.monotonic()
    first = 0.0
    result = Result(request.id)
    with closing(loaded.engine.stream(request)) as updates:
        for update in updates:
            first = first or time.monotonic() - began
            result.add(update)
            if show and update.text:
                click.echo(update.text, nl=False)
    if show:
        click.echo()
    if result.choices and result.choices[0].error is not None:
        raise result.choices[0].error
    return result, first, time.monotonic() - began


def _facts(loaded: Loaded, result: Result, first: float, seconds: float) -> dict[str, Any]:
    choice = result.choices[0]
    usage = choice.usage
    return {
        "text": choice.text,
        "tokens": choice.tokens,
        "finish": choice.finish,
        "model": loaded.name,
        "backend": {"name": loaded.choice.name, "reason": loaded.choice.reason},
        "usage": {
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        },
        "seconds": {"load": loaded.load_seconds, "first_token": first, "total": seconds},
    }
