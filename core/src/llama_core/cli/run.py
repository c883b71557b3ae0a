"""`llama run`: one prompt in, one answer out, streamed to a terminal or whole under `--json`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.loading import complete_model, model_options, opened
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.cli.profiling import profile_option, profiling
from llama_core.cli.sampling import params, sampling_options
from llama_core.cli.text import Text
from llama_core.engine.faces import Result
from llama_core.engine.load import Loaded
from llama_core.engine.request import Request

MAX_TOKENS = 256  # of an answer whose length nobody said


@click.command("run", epilog='Example: llama run ./model "Once upon a time" --max-tokens 50')
@click.argument("model", shell_complete=complete_model)
@click.argument("prompt", required=False, type=Text())
@model_options
@sampling_options
@profile_option
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    prompt: str | None,
    backend: str | None,
    program: str | None,
    context: int | None,
    rewrite: tuple[tuple[str, dict[str, Any]], ...],
    act: str,
    profile: Path | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Complete PROMPT (or standard input) with MODEL: a folder, a file, hf:org/name, or a model
    plugin. The text is given to the model as it is, without chat template or system prompt.

    The likeliest token is chosen where no --temperature is given, and an answer has at most 256
    tokens where no --max-tokens are.
    """
    text = _piped() if prompt is None else prompt
    chosen = params(said, {})
    with opened(
        session, model, backend=backend, program=program, context=context, rewrite=rewrite, act=act
    ) as loaded:
        request = loaded.request(text, chosen)
        if chosen.max_tokens is None:
            room = loaded.context_length - len(request.prompt)
            request = replace(request, params=replace(chosen, max_tokens=_most(room)))
        with profiling(loaded.engine.engine, profile):
            result, first, seconds = _answer(loaded, request, show=not as_json)
        emit(_facts(loaded, result, first, seconds), as_json, lambda: ())


def _most(room: int) -> int:
    """How long an answer may be where nobody said; none that does not fit is asked for."""
    return min(MAX_TOKENS, room) if room > 0 else MAX_TOKENS


def _piped() -> str:
    """The prompt from standard input, without the line end that tools put behind a text."""
    if sys.stdin.isatty():
        raise click.UsageError("give a PROMPT, or pipe one in")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"the prompt on standard input is no UTF-8: {error}") from None
    return text[:-2] if text.endswith("\r\n") else text.removesuffix("\n")


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
    error = result.choices[0].error
    if show and (error is None or result.choices[0].tokens):
        click.echo()
    if error is not None:
        raise error
    return result, first, time.monotonic() - began


def _facts(loaded: Loaded, result: Result, first: float, seconds: float) -> dict[str, Any]:
    choice = result.choices[0]
    usage = choice.usage
    return {
        "text": choice.text,
        "tokens": choice.tokens,
        "finish": choice.finish,
        "model": loaded.name,
        "backend": {
            "kind": loaded.choice.kind,
            "name": loaded.choice.name,
            "reason": loaded.choice.reason,
        },
        "act": None if loaded.graph is None else loaded.plan.act,
        "context_length": loaded.context_length,
        "usage": {
            "prompt_tokens": usage.prompt_tokens if usage else None,
            "completion_tokens": usage.completion_tokens if usage else None,
        },
        "seconds": {"load": loaded.load_seconds, "first_token": first, "total": seconds},
    }
