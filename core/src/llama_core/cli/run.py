"""`llama run`: one prompt in, one answer out, streamed to a terminal or whole under `--json`."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.chat_answer import Screen
from llama_core.cli.loading import complete_model, model_options, opened
from llama_core.cli.named import Pair, check, processor_options, used, uses
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.cli.profiling import profile_option, profiling
from llama_core.cli.sampling import params, sampling_options
from llama_core.cli.text import Text
from llama_core.contracts.postprocessor import channel, tool_calls
from llama_core.engine.faces import Result
from llama_core.engine.load import Loaded
from llama_core.engine.request import Request

MAX_TOKENS = 256  # of an answer whose length nobody said


@click.command("run", epilog='Example: llama run ./model "Once upon a time" --max-tokens 50')
@click.argument("model", shell_complete=complete_model)
@click.argument("prompt", required=False, type=Text())
@model_options
@sampling_options
@processor_options
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
    rewrite: tuple[Pair, ...],
    act: str,
    drafter: Pair | None,
    preprocessor: tuple[Pair, ...],
    profile: Path | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Complete PROMPT (or standard input) with MODEL: a folder, a file, hf:org/name, or a model
    plugin. The text is given to the model as it is, without chat template or system prompt.

    The likeliest token is chosen where no --temperature and no --sampler is given, and an answer
    has at most 256 tokens where no --max-tokens are.
    """
    text = _piped() if prompt is None else prompt
    chosen, first = params(said, {}), uses(preprocessor)
    check(session.plugins, said, first)
    with opened(
        session,
        model,
        backend=backend,
        program=program,
        context=context,
        rewrite=rewrite,
        act=act,
        drafter=drafter,
    ) as loaded:
        request = loaded.request(text, chosen, preprocessors=first)
        if chosen.max_tokens is None:
            room = loaded.context_length - len(request.prompt)
            request = replace(request, params=replace(chosen, max_tokens=_most(room)))
        with profiling(loaded.engine.engine, profile):
            result, waited, seconds = _answer(loaded, request, show=not as_json)
        if as_json:
            facts = _facts(loaded, result, waited, seconds)
            facts["used"] = used(loaded, request.params, first)
            emit(facts, True, lambda: ())


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
    result, screen = Result(request.id), Screen(terminal=sys.stdout.isatty())
    with closing(loaded.engine.stream(request)) as updates:
        for update in updates:
            first = first or time.monotonic() - began
            result.add(update)
            if show:
                screen.show(update.pieces)
    error = result.choices[0].error
    if show and (error is None or result.choices[0].tokens):
        screen.end()
    if error is not None:
        raise error
    return result, first, time.monotonic() - began


def _facts(loaded: Loaded, result: Result, first: float, seconds: float) -> dict[str, Any]:
    choice = result.choices[0]
    usage = choice.usage
    return {
        "text": choice.text,
        "reasoning": channel(choice.pieces, "reasoning") or None,
        "tool_calls": [asdict(call) for call in tool_calls(choice.pieces)],
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
