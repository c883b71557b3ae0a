"""Chatting at a terminal: reading what the user says, and the commands that begin with a slash."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from llama_core.cli import sampling
from llama_core.cli.chat_answer import Answered, Screen, answer
from llama_core.cli.chat_file import load_conversation, save_conversation
from llama_core.cli.named import MANY, NAMED, check, spelled
from llama_core.engine.conversation import Conversation, Turn
from llama_core.engine.request import Link, Params
from llama_core.errors import LlamaError, did_you_mean, sentence

HELP = """\
/help               this list
/system [TEXT]      show the system prompt, or replace it; "" takes it away
/set [NAME VALUE]   show how tokens are chosen, or change it: /set temperature 0.7,
                    /set sampler mirostat:tau=3, /set transform dry no-repeat-ngram:n=4
/undo               take back the last thing you said, and its answer
/regen              another answer to what you said last
/result TEXT        what the tool gave that the model has called
/clear              forget the conversation; the system prompt stays
/save FILE          write the conversation to a file
/load FILE          go on with the conversation in a file
/stats              tokens, speed, and room in the context
/exit               leave; ctrl-D does too

Text of several lines stands between two lines of \"\"\", or each line but the last ends with \\.
A message that begins with / begins with a space. Ctrl-C stops an answer."""


GREEDY = " (the likeliest token is taken)"
ALONE = ("help", "undo", "regen", "clear", "stats", "exit")  # commands that take no words


class Leave(Exception):
    """The user wants to go."""


class Loop:
    """A conversation at a terminal."""

    def __init__(
        self, conversation: Conversation, said: Mapping[str, Any], *, as_json: bool = False
    ) -> None:
        self.conversation = conversation
        self.loaded = conversation.loaded
        self.said = dict(said)  # of sampling, by options and /set
        self.as_json = as_json
        self.answers: list[Answered] = []

    def run(self) -> None:
        """Until the user leaves."""
        interrupted = False
        while True:
            try:
                line = input("> ")
                interrupted = False
                if line.startswith("/"):
                    self._obey(line)
                elif text := whole_message(line).strip():
                    self._turn(partial(self.conversation.ask, text))
            except Leave:
                return
            except EOFError:
                click.echo()  # so that what comes next does not stand behind the prompt
                return
            except KeyboardInterrupt:
                click.echo()
                if interrupted:
                    return
                interrupted = True
                _aside("ctrl-C again, ctrl-D or /exit leaves")
            except LlamaError as error:
                self._complain(error)
            except click.UsageError as error:
                self._complain(LlamaError(error.format_message()))
            except UnicodeDecodeError as error:
                self._complain(LlamaError(f"what was typed is no UTF-8: {error}"))

    def _complain(self, error: LlamaError) -> None:
        click.echo(f"error: {error}", err=True)
        if self.as_json:
            click.echo(json.dumps({"error": error.to_dict()}, ensure_ascii=False))

    def params(self) -> Params:
        return sampling.params(self.said, self.loaded.files.generation)

    def _chosen(self) -> dict[str, Any]:
        return sampling.chosen(self.said, self.loaded.files.generation)

    def _turn(self, start: Callable[[Params], Turn]) -> None:
        """Ask, show, remember. What was asked in vain is taken back."""
        kept = list(self.conversation.messages)
        try:
            turn = start(self.params())
            say_left_out(turn)
            found = answer(self.loaded, turn, None if self.as_json else Screen(terminal=True))
        except BaseException:
            self.conversation.messages[:] = kept
            raise
        if self.as_json:
            click.echo(json.dumps(found.facts(self.conversation), ensure_ascii=False))
        if found.interrupted and not found.choice.pieces:
            self.conversation.messages[:] = kept
            _aside("nothing was answered: the conversation is as it was before")
            return
        self.answers.append(found)
        self.conversation.heard(found.choice.pieces)
        self._say_open_call()

    def _say_open_call(self) -> None:
        calls = self.conversation.open_calls
        if calls:
            _aside(f"the model has called {calls[0]['function']['name']}: /result TEXT")

    # ---- commands ------------------------------------------------------------------------------

    def _obey(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        command = getattr(self, f"_do_{name}", None) if name.isidentifier() else None
        if command is None:
            known = [known[4:] for known in dir(self) if known.startswith("_do_")]
            hint = did_you_mean(name, known) or "/help lists them, and a space before says it"
            raise LlamaError(sentence(f"there is no command /{name}", hint))
        rest = rest.strip()
        if rest and name in ALONE:
            raise LlamaError(f"/{name} takes nothing behind it, and there is {rest!r}")
        command(rest)

    def _do_help(self, _: str) -> None:
        click.echo(HELP)

    def _do_exit(self, _: str) -> None:
        raise Leave

    def _do_system(self, text: str) -> None:
        if text:
            self.conversation.system = None if text == '""' else text
        click.echo(f"system prompt: {self.conversation.system or 'none'}")

    def _do_clear(self, _: str) -> None:
        self.conversation.messages.clear()
        click.echo("the conversation is forgotten")

    def _do_undo(self, _: str) -> None:
        taken = self.conversation.undo()
        click.echo("taken back" if taken else "nothing has been said")

    def _do_regen(self, _: str) -> None:
        messages = self.conversation.messages
        if all(message["role"] == "assistant" for message in messages):
            raise LlamaError("nothing has been said")
        before = messages[-1]
        self._turn(self.conversation.again)
        if messages[-1] == before:
            chosen = self._chosen()
            if chosen["temperature"] == 0:
                _aside("the same again, since the likeliest token is taken: /set temperature 0.7")
            elif (seed := chosen.get("seed")) is not None:
                _aside(f"the same again, since the seed is still {seed}: /set seed {seed + 1}")

    def _do_result(self, text: str) -> None:
        if not self.conversation.open_calls:
            raise LlamaError("no tool has been called")
        self.conversation.result(text)
        calls = self.conversation.open_calls
        if calls:
            click.echo(f"next: {calls[0]['function']['name']}")
        else:
            self._turn(self.conversation.again)

    def _do_set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        name = name.replace("-", "_")
        if name:
            changed = {**self.said, name: _setting(name, value.strip())}
            params = sampling.params(changed, self.loaded.files.generation)
            check(self.loaded.plugins, changed)
            for link in _links(params)[:-1]:
                self.loaded.plugins.create("transform", link.name, link.options)
            self.said = changed
        for name, value in self._chosen().items():
            if name == "stop":
                click.echo(f"stop: {', '.join(map(repr, value))}")
            elif name in NAMED:
                pairs = value if name in MANY else [value]
                click.echo(f"{name}: {' '.join(map(spelled, pairs))}")
            else:
                click.echo(f"{name}: {value}" + GREEDY * (name == "temperature" and not value))

    def _do_save(self, rest: str) -> None:
        path = _path(rest, "save")
        save_conversation(self.conversation, path)
        click.echo(f"{path} holds {_turns(self.conversation.num_turns)}")

    def _do_load(self, rest: str) -> None:
        load_conversation(self.conversation, _path(rest, "load"))
        click.echo(_turns(self.conversation.num_turns))
        self._say_open_call()

    def _do_stats(self, _: str) -> None:
        loaded, last = self.loaded, self.answers[-1] if self.answers else None
        click.echo(f"{loaded.name} on {loaded.choice.name}: {loaded.choice.reason}")
        dialect = self.conversation.dialect
        click.echo(f"reasoning: {dialect.marks_reason}")
        click.echo(f"tools: {dialect.tools or 'no parser'}, since {dialect.tools_reason}")
        drafting = self.loaded.engine.engine.drafting
        if self.loaded.drafter is not None:
            right = f"{drafting.num_accepted} of {drafting.num_draft_tokens} guesses were right"
            click.echo(f"drafter: {spelled(self.loaded.drafter)}: {drafting.fault or right}")
        made = sum(each.num_tokens for each in self.answers)
        click.echo(f"{_turns(self.conversation.num_turns)}, {made} tokens in answers")
        if last is not None:
            used = len(last.turn.request.prompt) + last.num_tokens
            click.echo(f"context: {used} of {loaded.context_length} tokens at the last answer")
            click.echo(f"last answer: {last.note(loaded.context_length)}")


def say_left_out(turn: Turn) -> None:
    """Nothing is forgotten in silence."""
    if turn.num_left_out:
        _aside(f"the context is full: without the oldest {_turns(turn.num_left_out)}")


def _aside(text: str) -> None:
    """What belongs neither to the conversation nor to what a command was asked for."""
    click.secho(f"({text})", dim=True, err=True)


def whole_message(line: str) -> str:
    """What the user says, of one line or several; this is the first."""
    if line.startswith('"""'):
        lines = [line[3:]]
        while not lines[-1].endswith('"""') or (len(lines) == 1 and line == '"""'):
            lines.append(_more())
        lines[-1] = lines[-1][:-3]
        return "\n".join(lines)
    while line.endswith("\\"):
        line = line[:-1] + "\n" + _more()
    return line


def _more() -> str:
    try:
        return input("… ")
    except EOFError:
        click.echo()
        raise LlamaError("the message had no end, and nothing of it is said") from None


def _turns(num: int) -> str:
    return f"{num} turn{'s' * (num != 1)}"


def _links(params: Params) -> list[Link]:
    """Transforms and sampler, which a command line only ever names."""
    return [link for link in (*params.transforms, params.sampler) if isinstance(link, Link)]


def _setting(name: str, value: str) -> Any:
    """The value of `/set NAME VALUE`; without one, back to the default."""
    if name == "stop":
        return (value,) if value else ()
    if name in NAMED:
        return _named(name, value)
    if name not in sampling.NUMBERS:
        known = [*sampling.NUMBERS, *NAMED, "stop"]
        hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise LlamaError(sentence(f"there is nothing called {name!r} to set", hint))
    try:
        return sampling.BOUNDS[name].convert(value, None, None) if value else None
    except click.BadParameter as error:
        raise LlamaError(f"{name}: {error.message}") from None


def _named(name: str, value: str) -> Any:
    """One capability or several, as their option on the command line takes them."""
    try:
        given = shlex.split(value)
        if len(given) > 1 and name not in MANY:
            raise LlamaError(f"there is one {name} at a time, and here are {', '.join(given)}")
        pairs = tuple(NAMED[name].convert(each, None, None) for each in given)
    except ValueError as error:
        raise LlamaError(f"{name}: {error}") from None
    except click.BadParameter as error:
        raise LlamaError(f"{name}: {error.message}") from None
    return pairs if name in MANY else next(iter(pairs), None)


def _path(text: str, command: str) -> Path:
    try:
        (name,) = shlex.split(text)
    except ValueError:
        raise LlamaError(
            "one file is wanted", remedy=f"For instance: /{command} chat.json"
        ) from None
    return Path(name).expanduser()
