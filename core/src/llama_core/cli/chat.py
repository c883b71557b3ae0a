"""`llama chat`: a conversation at a terminal, or one question from an option or a pipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from llama_core.cli.app import Session
from llama_core.cli.loading import complete_model, model_options, opened
from llama_core.cli.named import Pair, check, processor_options, uses
from llama_core.cli.output import json_option
from llama_core.cli.plugins import pass_session
from llama_core.cli.sampling import params, sampling_options
from llama_core.cli.text import Text

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("chat", epilog='Example: llama chat ./model --system "You are terse."')
@click.argument("model", shell_complete=complete_model)
@click.option("--prompt", type=Text(), help="Ask this one question, and exit.")
@click.option("--system", type=Text(), help="The system prompt.")
@click.option("--chat-template", type=_FILE, help="A Jinja file, instead of the model's own.")
@click.option(
    "--variable",
    "variables",
    multiple=True,
    metavar="NAME=VALUE",
    callback=lambda _, __, given: dict(_variable(each) for each in given),
    help="For the template, in JSON or as text: --variable enable_thinking=false.",
)
@click.option("--tools", type=_FILE, help="A JSON list of tools that the model may call.")
@click.option("--load", "saved", type=_FILE, help="Go on with a conversation that was saved.")
@model_options
@sampling_options
@processor_options
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    prompt: str | None,
    system: str | None,
    chat_template: Path | None,
    variables: dict[str, Any],
    tools: Path | None,
    saved: Path | None,
    backend: str | None,
    program: str | None,
    context: int | None,
    rewrite: tuple[Pair, ...],
    act: str,
    drafter: Pair | None,
    preprocessor: tuple[Pair, ...],
    as_json: bool,
    **said: Any,
) -> None:
    """Chat with MODEL: a folder, a file, hf:org/name, or a model plugin.

    Where input or output is no terminal, all of standard input is one question. `--json` prints one
    object on a line for each answer.
    """
    if prompt is not None and not prompt.strip():
        raise click.UsageError("nothing was asked: --prompt is empty")
    interactive = prompt is None and sys.stdin.isatty() and sys.stdout.isatty()
    question = prompt if prompt is not None or interactive else _piped()
    template = None if chat_template is None else _text(chat_template)
    offered = [] if tools is None else _tools(tools)
    first = uses(preprocessor)
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
        from llama_core.cli.chat_file import load_conversation
        from llama_core.cli.chat_loop import Loop
        from llama_core.engine.conversation import Conversation

        conversation = Conversation(
            loaded,
            template=template,
            system=system,
            tools=offered,
            variables=variables,
            preprocessors=first,
        )
        params(said, loaded.files.generation)  # a mistake in them is said before the first question
        if saved is not None:
            load_conversation(conversation, saved)
            conversation.system = system or conversation.system
        if question is not None:
            _ask_once(conversation, question, said, as_json=as_json)
            return
        _edit_lines()
        if not as_json:
            click.secho(f"{loaded.name} on {loaded.choice.name}; /help, /exit", dim=True)
        Loop(conversation, said, as_json=as_json).run()


def _ask_once(conversation: Any, question: str, said: Any, *, as_json: bool) -> None:
    from llama_core.cli.chat_answer import Screen, answer
    from llama_core.cli.chat_loop import say_left_out

    loaded = conversation.loaded
    turn = conversation.ask(question, params(said, loaded.files.generation))
    say_left_out(turn)
    screen = None if as_json else Screen(terminal=sys.stdout.isatty())
    found = answer(loaded, turn, screen)
    if as_json:
        click.echo(json.dumps(found.facts(conversation), ensure_ascii=False))
    if found.interrupted:
        raise click.Abort from KeyboardInterrupt()


def _piped() -> str:
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.UsageError(f"standard input is no UTF-8: {error}") from None
    if not text.strip():
        raise click.UsageError("nothing was asked: standard input is empty, and no --prompt given")
    return text.rstrip("\r\n")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise click.UsageError(f"cannot read {path}: {error}") from None


def _variable(given: str) -> tuple[str, Any]:
    name, equals, value = given.partition("=")
    if not name or not equals:
        raise click.BadParameter(f"{given!r} is no NAME=VALUE")
    try:
        return name, json.loads(value)
    except (ValueError, RecursionError):
        return name, value


def _tools(path: Path) -> list[dict[str, Any]]:
    try:
        found = json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path} is no JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(tool, dict) for tool in found):
        raise click.UsageError(f"{path} holds no list of tools")
    return found


def _edit_lines() -> None:
    """Arrow keys and earlier lines, where the system's library is there."""
    try:
        import readline
    except ImportError:
        return
    readline.set_auto_history(True)
