"""The commands that speak to a run: `status`, and one for each thing that it can be told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import ConfigError, plain
from llama_plugin_train.control import past
from llama_plugin_train.control.client import Control, NotRunning
from llama_plugin_train.loop.commands import DIALS, make
from llama_plugin_train.metrics.lines import line, sparkline

F = TypeVar("F", bound=Callable[..., Any])

_CURVE = 60  # characters
_HEARD = {"sample": "sample", "evaluate": "evaluation"}  # the event that a command brings about
_EVENTS = 1000  # the last ones, that the curve is drawn from

run_argument = click.argument("run", type=click.Path(path_type=Path))


def when(command: F) -> F:
    """Add `--at`, `--wait` and `--json`."""
    for option in (
        json_option,
        click.option(
            "--wait",
            "seconds",
            type=click.FloatRange(0, 600),
            default=60,
            show_default=True,
            help="Stay so many seconds for the answer.",
        ),
        click.option(
            "--at",
            type=click.IntRange(0),
            default=0,
            metavar="STEP",
            help="Take effect after this step, not at once.",
        ),
    ):
        command = option(command)
    return command


@click.command("status", epilog="Example: llama train status runs/config --json")
@run_argument
@json_option
def status(run: Path, as_json: bool) -> None:
    """Say how the run in a folder stands, whether it runs or not."""
    note = None
    told = []
    try:
        control = Control.of(run)
    except NotRunning as error:
        told = past.records(run)
        state, note = past.state(run, told), str(error)
    else:
        state = control.state()
        told = control.events(max(0, state["sequence"] - _EVENTS))["events"]
    state["losses"] = past.losses(told)
    emit({**state, "note": note}, as_json, lambda: _lines(state, note))


def _lines(state: Mapping[str, Any], note: str | None) -> Iterator[str]:
    where = f", process {state['process']}" if state["process"] else ""
    yield f"{plain(state['run'])}: {state['state']}{where}"
    started = state["started"]
    if started is not None:
        done = state["step"] / started["steps"]
        yield f"step {state['step']} of {started['steps']}, {done:.0%}"
    if state["losses"]:
        yield f"loss {sparkline(state['losses'], _CURVE)} {state['losses'][-1]:.4f}"
    ended = state["ended"]
    for event in (*state["latest"].values(), ended):
        if event is not None and (words := line(event)) is not None:
            yield words
    if state["settings"]:
        yield "dials " + _pairs(state["settings"])
    if state["waiting"]:
        yield f"{len(state['waiting'])} commands wait for the end of the step"
    if note is not None and not (ended and ended["reason"] in ("finished", "early")):
        yield note


def _tell(
    run: Path,
    command: str,
    arguments: Mapping[str, Any] | None,
    at: int,
    seconds: float,
    as_json: bool,
) -> None:
    """What the run answers with an event is shown too."""
    control, event = Control.of(run), _HEARD.get(command)
    before = control.state()["sequence"] if event else 0
    answer = control.tell(command, arguments, at=at, wait_seconds=seconds)
    facts, lines = dict(answer), [_said(answer)]
    if event:
        told = control.events(before)["events"] if answer["reply"] == "done" else []
        facts[f"{event}s"] = heard = [one for one in told if one["event"] == event]
        lines += [str(line(one)) for one in heard]
    emit(facts, as_json, lambda: lines)


def _said(answer: Mapping[str, Any]) -> str:
    if answer["reply"] == "received":
        return f"{answer['command']}: received; it takes effect when its step comes"
    told = _pairs(answer["arguments"])
    return f"{answer['command']}{' ' * bool(told)}{told}: took effect after step {answer['step']}"


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={plain(json.dumps(value))}" for key, value in values.items())


def _plain_command(name: str, told: str, text: str) -> click.Command:
    """A command that has nothing to say but its name."""

    @click.command(name, help=text, epilog=f"Example: llama train {name} runs/config")
    @run_argument
    @when
    def command(run: Path, at: int, seconds: float, as_json: bool) -> None:
        _tell(run, told, None, at, seconds, as_json)

    return command


@click.command("stop", epilog="Example: llama train stop runs/config")
@run_argument
@click.option(
    "--now", is_flag=True, help="Save nothing: what came after the last checkpoint is lost."
)
@when
def stop(run: Path, now: bool, at: int, seconds: float, as_json: bool) -> None:
    """Save a checkpoint and end the run; `llama train --resume RUN` goes on from there."""
    _tell(run, "emergency_stop" if now else "stop", None, at, seconds, as_json)


@click.command("sample", epilog='Example: llama train sample runs/config "Once upon a time"')
@run_argument
@click.argument("prompt", required=False)
@when
def sample(run: Path, prompt: str | None, at: int, seconds: float, as_json: bool) -> None:
    """Have the run write from PROMPT, or from the prompts of its configuration."""
    arguments = None if prompt is None else {"prompt": prompt}
    _tell(run, "sample", arguments, at, seconds, as_json)


class Setting(click.ParamType):
    """`NAME=NUMBER`, of a dial that there is."""

    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, float | int]:
        name, equals, text = str(value).partition("=")
        try:
            number = json.loads(text)
        except ValueError:
            number = None
        if not equals or type(number) not in (int, float):
            self.fail(f"{value!r} is no NAME=NUMBER, as in learning_rate=1e-4", param, ctx)
        dial = name.replace("-", "_")
        try:
            make("set", {dial: number})
        except ConfigError as error:
            self.fail(str(error), param, ctx)
        return dial, number


_DIALS = "\n\n".join(f"{name}: {dial.meaning}." for name, dial in DIALS.items())


@click.command(
    "set",
    help=f"Turn dials of the run, all together, between two steps.\n\n{_DIALS}",
    epilog="Example: llama train set runs/config learning_rate=1e-4 clip=0.5",
)
@run_argument
@click.argument("settings", nargs=-1, required=True, type=Setting(), metavar="NAME=NUMBER…")
@when
def set_(
    run: Path, settings: tuple[tuple[str, Any], ...], at: int, seconds: float, as_json: bool
) -> None:
    _tell(run, "set", dict(settings), at, seconds, as_json)


STEERING = (
    status,
    _plain_command("pause", "pause", "Have the run wait, with everything in memory."),
    _plain_command("resume", "resume", "Have a paused run go on."),
    stop,
    set_,
    _plain_command("save", "save", "Save a checkpoint now."),
    _plain_command("evaluate", "evaluate", "Measure the held-out text now."),
    sample,
)
