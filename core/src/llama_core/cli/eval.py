"""`llama eval`: how well a model predicts a text, how far it strays, what it answers rightly."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from llama_core.cli.app import Session
from llama_core.cli.files import NewFile, write_text
from llama_core.cli.loading import (
    act_option,
    complete_model,
    drafter_option,
    opened,
    rewrite_option,
    waiting,
)
from llama_core.cli.named import Pair, check, drafted, postprocessor_option, used
from llama_core.cli.output import emit, json_option, table
from llama_core.cli.plugins import pass_session
from llama_core.cli.progress import progress
from llama_core.cli.sampling import params, sampling_options
from llama_core.engine.load import Loaded, load
from llama_core.engine.request import Limits
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    from llama_core.engine.evaluate import Divergence, Prediction, Text
    from llama_core.engine.suite import Reply, Skill

Rewriting = tuple[tuple[str, dict[str, Any]], ...]
WINDOW = 512
MAX_TOKENS = 64
LISTED = 5  # questions that failed, before the rest are only counted


class How(NamedTuple):
    """How a model runs."""

    backend: str | None
    rewrite: Rewriting = ()
    act: str = "none"


@click.command("eval", epilog="Example: llama eval ./model-q4 --text book.txt --against ./model")
@click.argument("model", shell_complete=complete_model)
@click.option(
    "--text",
    type=click.File("rb", lazy=True),
    help="Measure perplexity on this file; - is stdin.",
)
@click.option(
    "--suite",
    help="Ask the questions of a JSONL file (prompt or messages, answer, skill), or of one that "
    "MODEL brings, by its name.",
)
@click.option("--against", help="The base that MODEL is compared with, over the same text.")
@click.option(
    "--window",
    type=click.IntRange(2),
    help=f"Tokens of a window  [default: {WINDOW}, or the context where that is less]",
)
@click.option("--backend", help="The backend MODEL runs on; the best that has a device by default.")
@click.option("--against-backend", help="The one --against runs on; MODEL's by default.")
@rewrite_option
@act_option
@drafter_option
@sampling_options
@postprocessor_option
@click.option("--plot", type=NewFile(), help="Draw the curves into this SVG file.")
@json_option
@pass_session
def command(
    session: Session,
    model: str,
    text: Any,
    suite: str | None,
    against: str | None,
    window: int | None,
    backend: str | None,
    against_backend: str | None,
    rewrite: Rewriting,
    act: str,
    drafter: Pair | None,
    plot: Path | None,
    as_json: bool,
    **said: Any,
) -> None:
    """Measure MODEL on a text (perplexity; with --against, divergence) or on a suite of questions.

    The text is cut into windows that do not overlap. Each begins with the token that begins a
    text, where the tokenizer puts one, and every token but the first is scored by those before it
    in its window. What fills no window at the end is left out. The base takes its activations as
    they are.

    A suite's questions are asked as they stand in it. The likeliest token is chosen where no
    --temperature and no --sampler is given, and an answer has at most 64 tokens where no
    --max-tokens are. What says how to answer does nothing to a text.
    """
    if (text is None) == (suite is None):
        raise click.UsageError("give one of --text and --suite")
    if against_backend and not against:
        raise click.UsageError("--against-backend does nothing without --against")
    how = How(backend, rewrite, act)
    if suite is not None:
        _refuse_idle("--text", {"--against": against, "--window": window, "--plot": plot})
        said["max_tokens"] = said["max_tokens"] or MAX_TOKENS
        _suite(session, model, how, drafter, suite, said, as_json)
        return
    answering = {"drafter": drafter, **said}
    idle = {f"--{name.replace('_', '-')}": value for name, value in answering.items()}
    _refuse_idle("--suite", {name: None if value == () else value for name, value in idle.items()})
    base = How(against_backend or backend)
    found = _text(session, model, _decoded(text), window, how, against, base)
    from llama_core.cli import eval_report as report

    if plot is not None:
        write_text(plot, report.drawn(*found[1:]))
    emit(report.facts(*found), as_json, lambda: report.lines(*found))


def _refuse_idle(needs: str, options: Mapping[str, Any]) -> None:
    """No option does nothing."""
    for name, value in options.items():
        if value is not None:
            raise click.UsageError(f"{name} does nothing without {needs}")


# ---------------------------------------------------------------- a text


def _decoded(file: Any) -> str:
    """The file's text; a file of something else is refused."""
    with file:
        data: bytes = file.read()
    try:
        text = data.decode("utf-8-sig")
        at = text.find("\0")
    except UnicodeDecodeError as error:
        text, at = "", error.start
    if at >= 0:
        raise LlamaError(
            f"{file.name} is no text: it is not UTF-8 at {at}",
            remedy="Give a plain text file; convert another charset with iconv.",
        )
    return text


def _text(
    session: Session,
    model: str,
    text: str,
    window: int | None,
    how: How,
    against: str | None,
    like: How,
) -> tuple[Text, Prediction, Prediction | None, Divergence | None]:
    from llama_core.engine import evaluate as run

    # One sequence at a time, and a context beyond the usual one only where a window needs it.
    limits = Limits(max_sequences=1)
    context = window if window and window > limits.max_length else None

    def ready(name: str, how: How) -> Loaded:
        with waiting(f"loading {name}"):
            return load(
                name,
                plugins=session.plugins,
                backend=how.backend,
                rewrite=how.rewrite,
                act=how.act,
                limits=limits,
                context=context,
            )

    with ExitStack() as stack:
        loaded = stack.enter_context(ready(model, how))
        length = window or min(WINDOW, loaded.engine.engine.limits.max_length)
        given = run.cut(loaded.tokenizer, text, length, loaded.program.vocab_size)
        base = None
        if against is not None:
            base = stack.enter_context(ready(against, like))
            run.check_alike(loaded, base, text)
        with progress("windows", len(given.windows_WN)) as tick:
            return given, *run.evaluate(given, loaded, base, progress=tick)


# ---------------------------------------------------------------- a suite


def _suite(
    session: Session,
    model: str,
    how: How,
    drafter: Pair | None,
    given: str,
    said: Mapping[str, Any],
    as_json: bool,
) -> None:
    from llama_core.engine import suite
    from llama_core.engine.finding import find_model

    chosen = params(said, {})
    check(session.plugins, said)
    path = suite.find_suite(given, find_model(session.plugins, model).path)
    questions = suite.read_suite(path)
    options = {**how._asdict(), "drafter": drafter}
    with opened(session, model, program=None, context=None, **options) as loaded:
        with progress("questions", len(questions)) as tick:
            replies = suite.ask(loaded, questions, chosen, progress=tick)
        name, backend, through = loaded.name, loaded.choice.name, used(loaded, chosen)
    if all(reply.error for reply in replies):
        raise LlamaError(f"no question of {path} could be answered: {replies[0].error}")
    skills = suite.by_skill(replies)
    facts = {
        "model": name,
        "backend": backend,
        "used": through,
        "suite": str(path),
        "skills": [{**asdict(skill), "share": skill.share} for skill in skills],
        "answers": [
            {
                "skill": reply.question.skill,
                "expected": reply.question.answer,
                "given": reply.text,
                "right": reply.right,
                "error": reply.error,
            }
            for reply in replies
        ],
    }
    emit(facts, as_json, lambda: [*_suite_lines(skills, replies), *drafted(through["drafter"])])


def _suite_lines(skills: Sequence[Skill], replies: Sequence[Reply]) -> Iterator[str]:
    rows = [
        (s.name, f"{s.right} of {s.asked}", f"{s.share:.1%}", f"{s.low:.1%} to {s.high:.1%}")
        for s in skills
    ]
    yield from table(("skill", "right", "share", "95% interval"), rows)
    failed = [reply for reply in replies if reply.error]
    if failed:
        yield f"{len(failed)} of {len(replies)} could not be answered, which counts as not right:"
        yield from (f"  {reply.question.skill}: {reply.error}" for reply in failed[:LISTED])
        if len(failed) > LISTED:
            yield f"  and {len(failed) - LISTED} more, which --json lists"
