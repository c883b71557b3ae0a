"""What a command does to a run, between two steps.

What changes the numbers (`set`) is in the run's log before it is done, and a run that begins again
does it again before the same step; whatever else was told is in the log to be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from llama_core.errors import LlamaError
from llama_plugin_train.loop.commands import (
    Command,
    EmergencyStop,
    Evaluate,
    Pause,
    Resume,
    Sample,
    Save,
    Set,
    Stop,
    make,
)
from llama_plugin_train.loop.events import Changed
from llama_plugin_train.runs import Change, Changes


class Controlled(Protocol):
    """What can be done to a run."""

    @property
    def step_number(self) -> int:
        """How many steps were done."""

    def pause(self) -> None: ...
    def go_on(self) -> None: ...
    def end(self, reason: str) -> None: ...
    def save(self) -> None: ...
    def evaluate(self) -> None: ...
    def sample(self, prompt: str | None) -> None: ...
    def turn(self, dials: Mapping[str, float | int]) -> None: ...


def decide(
    new: Iterable[Command], step: int, log: Changes, *, replay: bool
) -> list[dict[str, Any]]:
    """What is to be done before this step, on every rank: what the log says was set before it, then
    what is new, once it is in the log. As JSON, and with an error where it is refused."""
    again = [one for one in log.before(step) if one.command == Set.name] if replay else []
    decided = [_told(make(one.command, one.arguments), None, replayed=True) for one in again]
    for command in new:
        decided.append(_told(command, _recorded(command, step, log), replayed=False))
    return decided


def apply(decided: Mapping[str, Any], run: Controlled) -> Changed:
    """Do one of these; what became of it. One that cannot be done stops no run."""
    command = make(decided["command"], decided["arguments"], decided["id"])
    step, error = run.step_number, decided["error"]
    try:
        if error is None:
            _DEEDS[type(command)](run, command)
    except LlamaError as fault:
        error = str(fault)
    return Changed(step=step, **{**decided, "error": error})


def _told(command: Command, error: str | None, *, replayed: bool) -> dict[str, Any]:
    return {
        "id": command.id,
        "command": command.name,
        "arguments": command.arguments,
        "replayed": replayed,
        "error": error,
    }


def _recorded(command: Command, step: int, log: Changes) -> str | None:
    """Put a command into the log; why that cannot be, or None."""
    if step < log.last_step and isinstance(command, Set):
        return (
            f"nothing can be set before step {log.last_step}: until then the run does again what "
            "it did"
        )
    try:
        if step >= log.last_step:
            log.record(Change(step, command.name, command.arguments))
    except LlamaError as error:
        return str(error)
    return None


_DEEDS: Mapping[type[Command], Callable[[Controlled, Any], None]] = {
    Pause: lambda run, _: run.pause(),
    Resume: lambda run, _: run.go_on(),
    Stop: lambda run, _: run.end("stopped"),
    EmergencyStop: lambda run, _: run.end("emergency"),
    Save: lambda run, _: run.save(),
    Evaluate: lambda run, _: run.evaluate(),
    Sample: lambda run, command: run.sample(command.prompt),
    Set: lambda run, command: run.turn(command.values),
}
