"""`llama train CONFIG`: what it takes from the command line, and what it prints at the end."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_core.cli.app import Session
from llama_core.cli.output import emit, json_option
from llama_core.cli.plugins import pass_session
from llama_core.errors import ConfigError, LlamaError, plain

if TYPE_CHECKING:
    from llama_core.plugins import Plugins
    from llama_plugin_train.loop.config import TrainConfig

RUNS = Path("runs")


class Override(click.ParamType):
    """`section.word=value`; a value is TOML, or else text."""

    name = "section.word=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, Any]:
        name, equals, text = str(value).partition("=")
        if not equals or not all(name.partition(".")):
            self.fail(f"{value!r} is no SECTION.WORD=VALUE, as in train.steps=200", param, ctx)
        try:
            return name, tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            return name, text


@click.command("run", epilog="Example: llama train config.toml --max-steps 200")
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="Learn from these files or folders, in place of those of CONFIG.",
)
@click.option("--max-steps", type=click.IntRange(1), help="Short for --set train.steps=N.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    type=Override(),
    help="Say a word of the configuration; with --resume, one that may change on the way.",
)
@click.option(
    "--run",
    "folder",
    type=click.Path(path_type=Path),
    help="The new run's folder  [default: runs/ and the name of CONFIG]",
)
@click.option(
    "--resume", type=click.Path(path_type=Path), help="Go on with the run in this folder."
)
@click.option("--dry-run", is_flag=True, help="Only say what it would take: memory, time, tokens.")
@click.option(
    "--tensorboard", is_flag=True, help="Write for TensorBoard too, into the run's folder."
)
@json_option
@pass_session
def run(
    session: Session,
    config: Path | None,
    data: tuple[Path, ...],
    max_steps: int | None,
    settings: tuple[tuple[str, Any], ...],
    folder: Path | None,
    resume: Path | None,
    dry_run: bool,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train as CONFIG says; without one, --data learns with the defaults.

    The run's folder gets everything: checkpoints, metrics, and the model at the end. Ctrl-C saves
    a checkpoint and ends; a second one ends at once.
    """
    from llama_plugin_train.cli.estimating import estimated, fitting, lines
    from llama_plugin_train.loop.beginning import begin, configured, told_before

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LlamaError(
            "this is one process of several that torchrun started",
            remedy="Say distributed.ranks in the configuration and start `llama train` once.",
        )
    overrides = dict(settings)
    if max_steps is not None:
        overrides["train.steps"] = max_steps
    if tensorboard:
        overrides["control.tensorboard"] = True
    if resume is not None:
        _refuse_idle({"CONFIG": config, "--data": data, "--run": folder})
        told, place = _meant(lambda said: configured(resume, said), overrides), resume
        if before := {k: v for k, v in told_before(resume).items() if k not in overrides}:
            said = ", ".join(f"{name}={json.dumps(value)}" for name, value in before.items())
            session.plugins.announcements.note(f"as this run was told before: {said}")
    else:
        told = _meant(lambda said: _configuration(config, data, said), overrides)
        wanted = folder or RUNS / (config.stem if config else data[0].absolute().stem)
        place = folder or _free(wanted)
    if dry_run:
        facts = estimated(told, resume)
        emit(facts, as_json, lambda: lines(facts))
        return
    fitting(told, resume)  # said now, before the machine says it in its own way
    if resume is None:
        if place != wanted:
            session.plugins.announcements.note(
                f"{wanted} is there, so this run goes into {place}",
                remedy=f"To go on with that one instead: llama train --resume {wanted}",
            )
        begin(told, place, session.plugins.announcements).close()
        overrides = {}
    facts = _done(session.plugins, place, told, overrides)
    emit(facts, as_json, lambda: _lines(facts))


def _done(
    plugins: Plugins, folder: Path, config: TrainConfig, overrides: Mapping[str, Any]
) -> dict[str, Any]:
    """Run it to its end; what it came to."""
    if config.distributed.ranks > 1:
        from llama_plugin_train.cli.launching import launch

        ended = launch(plugins, folder, config, overrides)
    else:
        from llama_plugin_train.cli.running import train

        outcome = train(plugins, folder, overrides)
        ended = {name: getattr(outcome, name) for name in ("reason", "step", "loss", "model")}
    model = ended["model"]
    return {
        "run": str(folder),
        "reason": ended["reason"],
        "step": ended["step"],
        "loss": ended["loss"],
        "model": None if model is None else str(model),
    }


def _refuse_idle(options: Mapping[str, Any]) -> None:
    """No option does nothing."""
    for name, value in options.items():
        if value:
            raise click.UsageError(f"{name} does nothing with --resume: the run has its own")


def _meant(
    read: Callable[[Mapping[str, Any]], TrainConfig], overrides: Mapping[str, Any]
) -> TrainConfig:
    """The configuration with what was typed; what would be right without it was typed wrong."""
    try:
        return read(overrides)
    except ConfigError as error:
        if overrides:
            read({})
            raise click.UsageError(str(error), click.get_current_context()) from None
        raise


def _configuration(
    config: Path | None, data: tuple[Path, ...], said: Mapping[str, Any]
) -> TrainConfig:
    from llama_plugin_train.loop.config import TrainConfig

    overrides = dict(said)
    if data:
        overrides["data.sources"] = [
            {"name": path.absolute().stem, "paths": [str(path.absolute())]} for path in data
        ]
    if config is not None:
        return TrainConfig.read(config, overrides)
    if not data:
        raise click.UsageError(
            "give a configuration, or --data with what to learn from; "
            "`llama train init` writes one to begin with"
        )
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        section, _, word = name.partition(".")
        given.setdefault(section, {})[word] = value
    return TrainConfig.from_dict(given, "the command line").beside(Path.cwd())


def _free(wanted: Path) -> Path:
    """The folder, or the first with a number that is not there."""
    number, place = 1, wanted
    while place.exists():
        number += 1
        place = wanted.with_name(f"{wanted.name}-{number}")
    return place


def _lines(facts: Mapping[str, Any]) -> Iterator[str]:
    loss = "" if facts["loss"] is None else f", loss {facts['loss']:.4f}"
    yield f"{plain(facts['run'], 400)}: {facts['reason']} at step {facts['step']}{loss}"
    if facts["model"] is not None:
        model = plain(facts["model"], 400)
        yield f"the model is in {model}; try it: llama run {model} PROMPT"
    else:
        yield f"go on with it: llama train --resume {plain(facts['run'], 400)}"
