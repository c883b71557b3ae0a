"""`llama bench`: how fast a model is on a backend, or on two of them in turns."""

from __future__ import annotations

import datetime
import platform
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from llama_core import __version__
from llama_core.cli.app import Session
from llama_core.cli.doctor import cores, memory_bytes
from llama_core.cli.loading import act_option, complete_model, drafter_option, rewrite_option
from llama_core.cli.named import Pair, check, drafted, drafting, spelled
from llama_core.cli.output import emit, json_option, table
from llama_core.cli.plugins import pass_session
from llama_core.cli.profiling import profile_option, profiling
from llama_core.cli.progress import progress
from llama_core.cli.sampling import chain_options, params
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.engine.measure import Row, Side, Work
    from llama_core.plugins import Plugins


class Sizes(click.ParamType):
    """Whole numbers above 0, with commas between."""

    name = "N,N"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        parts = value.split(",")
        if not all(part.strip().isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is no list of numbers above 0, as in 1,8", param, ctx)
        return tuple(dict.fromkeys(int(part) for part in parts))


PROMPT_TOKENS = 512


@click.command("bench", epilog="Example: llama bench ./model --against reference --batch 1,8")
@click.argument("model", shell_complete=complete_model)
@click.option("--backend", help="The backend to measure; the best that has a device by default.")
@click.option(
    "--against",
    help="A backend measured in turns with the first; the same one shows what is chance.",
)
@click.option(
    "--prompt-tokens",
    type=click.IntRange(1),
    help=f"[default: {PROMPT_TOKENS}, or what the context leaves]",
)
@click.option("--max-tokens", type=click.IntRange(2), default=64, show_default=True)
@click.option("--batch", type=Sizes(), default="1,8", show_default=True, help="Sequences at once.")
@click.option(
    "--repeat",
    type=click.IntRange(1),
    default=5,
    show_default=True,
    help="Rounds, after one that only warms up.",
)
@click.option("--threads", type=click.IntRange(1), help="Of backends that have this option.")
@rewrite_option
@act_option
@drafter_option
@chain_options
@click.option(
    "--random", is_flag=True, help="Fill the shape of MODEL's config.json with random weights."
)
@profile_option
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    backend: str | None,
    against: str | None,
    prompt_tokens: int | None,
    max_tokens: int,
    batch: tuple[int, ...],
    repeat: int,
    threads: int | None,
    rewrite: tuple[tuple[str, dict[str, Any]], ...],
    act: str,
    drafter: Pair | None,
    random: bool,
    profile: Path | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Measure how fast MODEL is: its program alone, and with the engine around it.

    Shown are the median and the range of the rounds. Each round has new prompts of random tokens.
    With --against both backends get the same tokens, one after the other in every round.

    --sampler, --transform and --drafter are of the engine: the program alone chooses greedily. How
    much of a text a drafter guesses rightly, prompts of random tokens do not tell.
    """
    from llama_core.engine import measure as run
    from llama_core.engine.subject import Wanted, context_of

    if drafter is not None and random:
        raise click.UsageError("--drafter has nothing to guess of what --random weights answer")
    chosen = replace(params(said, {}), seed=0)
    check(session.plugins, said)
    if prompt_tokens is None:
        context = context_of(session.plugins, model, random=random)
        left = PROMPT_TOKENS if context is None else context - max_tokens
        prompt_tokens = max(1, min(PROMPT_TOKENS, left))
    work = run.Work(prompt_tokens, max_tokens, batch, repeat)
    wanted = Wanted(
        model,
        max(batch),
        prompt_tokens + max_tokens,
        backend,
        {} if threads is None else {"threads": threads},
        rewrite,
        random,
        act,
        chosen,
        drafter,
    )
    both = [wanted] if against is None else [wanted, replace(wanted, backend=against)]
    with ExitStack() as stack:
        with progress("rounds", len(both) * (repeat + 1)) as tick:
            sides = run.measure(
                session.plugins, work, both, lambda one: stack.callback(one.close), tick
            )
        guessed = [drafting(side.subject.engine, drafter) for side in sides]
        for one in guessed:
            if one is not None and one["fault"]:
                raise LlamaError(f"nothing was measured with a drafter: {one['fault']}")
        rows = run.rows(work, *sides)
        subject = sides[0].subject
        if profile is not None:
            # A round of its own, since a clock at every node takes time itself.
            size = (max(batch), prompt_tokens)
            prompts = np.random.default_rng(repeat + 1).integers(
                0, subject.program.vocab_size, size
            )
            with profiling(subject.engine, profile):
                run.answers(subject, prompts.astype(np.int32), max_tokens)
    used = {
        "transforms": [spelled(pair) for pair in said["transform"]],
        "sampler": spelled(said["sampler"]) if said["sampler"] else "greedy",
        "drafter": guessed,
    }
    emit(
        {**_report(session.plugins, work, sides, rows), "used": used},
        as_json,
        lambda: [*_lines(work, sides, rows), *(line for one in guessed for line in drafted(one))],
    )


def _report(
    plugins: Plugins, work: Work, sides: Sequence[Side], rows: Sequence[Row]
) -> dict[str, Any]:
    devices = sides[0].subject.choice.devices
    memory = memory_bytes()
    processors = [one.name for one in devices if one.kind == "cpu"]
    return {
        "name": "bench",
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "machine": {
            "cpu": processors[0] if processors else platform.processor() or platform.machine(),
            "cores": cores(),
            "memory_gib": None if memory is None else round(memory / 2**30, 1),
            "gpu": next((one.name for one in devices if one.kind != "cpu"), None),
            "system": platform.platform(),
        },
        "versions": {"python": platform.python_version(), **_versions(plugins, sides)},
        "command": shlex.join(["llama", *sys.argv[1:]]),
        "model": sides[0].subject.name,
        "backends": [side.backend for side in sides],
        "act": [side.subject.plan.act for side in sides],
        "work": asdict(work),
        "rows": [asdict(row) for row in rows],
    }


def _versions(plugins: Plugins, sides: Sequence[Side]) -> dict[str, str | None]:
    """Of what did the work; a program provider is no backend, and its version is not looked up."""
    found: dict[str, str | None] = {"llama-core": __version__, "numpy": np.__version__}
    for side in sides:
        if side.backend in plugins.names("backend"):
            plugin = plugins.resolve("backend", side.backend).plugin
            found[plugin.found.dist or plugin.name] = plugin.found.version
    return found


def _lines(work: Work, sides: Sequence[Side], rows: Sequence[Row]) -> Iterator[str]:
    ours, *other = sides
    device = ours.subject.choice.devices[0].name if ours.subject.choice.devices else ""
    yield f"{ours.subject.name} on {ours.backend} ({device}), median of {work.repeat} rounds"
    acts = {side.label: side.subject.plan.act.replace(" ", " and ") for side in sides}
    if set(acts.values()) != {"none"}:
        told = ", ".join(f"{act} on {label}" for label, act in acts.items())
        yield f"activations of linears: {told}"
    header = ["", "median", "range", "unit"]
    header += [other[0].label, "ratio"] if other else []
    cells = [[row.metric.partition(".")[2], *_figures(row, bool(other)), row.note] for row in rows]
    yield from table((*header, "what"), cells)


def _figures(row: Row, compared: bool) -> list[str]:
    scale, unit = (2**20, "MiB") if row.unit == "bytes" else (1, row.unit)

    def shown(x: float | None) -> str:
        return "-" if x is None else f"{x / scale:,.4g}"

    spread = "" if row.spread is None else " to ".join(map(shown, row.spread))
    found = [shown(row.value), spread, unit]
    if compared:
        found += [shown(next(iter(row.peers.values()), None))]
        found += ["-" if row.ratio is None else f"{row.ratio:.3g}"]
    return found
