"""`llama plugins check`: what CI runs, and `publish` before it signs anything.

Four steps, each of which needs the ones before: the manifest is valid, the wheel builds, the wheel
is fit to be published, and what it provides conforms. A wheel that is there begins at the third.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from llama_core.cli.output import emit, json_option
from llama_core.errors import LlamaError
from llama_marketplace.author import building, project
from llama_marketplace.author.conformance import Outcome, Verdict, conformance
from llama_marketplace.wheels import Inspected, inspect

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked."""

    name: str
    passed: bool
    found: str  # one line
    details: tuple[str, ...] = ()


class Checking:
    """The steps so far. A step that fails ends the check."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.steps: list[Step] = []
        self.outcome: Outcome | None = None
        self.wheel: Inspected | None = None
        self._say = say

    @property
    def passed(self) -> bool:
        return all(step.passed for step in self.steps)

    def step(self, name: str, do: Callable[[], T], told: Callable[[T], str]) -> T | None:
        """Do one thing and note what came of it; None where it failed."""
        self._say(name)
        try:
            found = do()
        except LlamaError as error:
            first, *rest = str(error).splitlines() or [""]
            self.steps.append(Step(name, False, first, tuple(rest)))
            return None
        self.steps.append(Step(name, True, told(found)))
        return found


def check_project(folder: Path, checking: Checking, *, isolated: bool = True) -> Checking:
    """All four steps for a project."""
    one = checking.step("manifest", lambda: project.read(folder), _manifest_line)
    if one is None:
        return checking
    with tempfile.TemporaryDirectory(prefix="llama-check-") as place:
        made = checking.step(
            "build",
            lambda: building.build(folder, Path(place, "dist"), isolated=isolated),
            lambda path: path.name,
        )
        if made is not None:
            _check_wheel(made, checking, Path(place), one.folder)
    return checking


def check_wheel(wheel: Path, checking: Checking) -> Checking:
    """The last two steps, for a wheel whose project is not at hand."""
    with tempfile.TemporaryDirectory(prefix="llama-check-") as place:
        _check_wheel(wheel, checking, Path(place), None)
    return checking


def _check_wheel(wheel: Path, checking: Checking, place: Path, folder: Path | None) -> None:
    one = checking.step("wheel", lambda: inspect(wheel), _wheel_line)
    if one is None:
        return
    checking.wheel = one
    run = place / "run"
    outcome = checking.step("conformance", lambda: tried(one, run, folder), _outcome_line)
    if outcome is not None and not outcome.conforms:
        failed = Step("conformance", False, _outcome_line(outcome), tuple(_faults(outcome)))
        checking.steps[-1] = failed
    checking.outcome = outcome


def tried(one: Inspected, place: Path, folder: Path | None) -> Outcome:
    """What comes of the tests, on a machine that the wheel is for."""
    from packaging.tags import sys_tags

    if not {str(tag) for tag in sys_tags()} & set(one.tags):
        raise LlamaError(
            f"the wheel is for {', '.join(one.tags)}, and cannot be tried on this machine",
            remedy="Check it on a machine that it was built for.",
        )
    place.mkdir()
    return conformance(one.path, one.manifest, place, folder)


def _manifest_line(one: project.Project) -> str:
    provides = ", ".join(map(str, one.manifest.provides)) or "listeners only"
    return f"{one.dist} provides {provides}"


def _wheel_line(one: Inspected) -> str:
    return f"{len(one.files)} files, {one.size:,} bytes, tags {', '.join(one.tags)}"


def _outcome_line(found: Outcome) -> str:
    suites = [
        f"{one.kind} '{one.name}' {one.passed} of {one.rules} rules" for one in found.verdicts
    ]
    tests = f"{found.tests - len(found.failed)} of {found.tests} other tests"
    return "; ".join([*suites, tests]) + " passed"


def _faults(found: Outcome) -> Iterator[str]:
    for one in found.verdicts:
        yield from one.failed
        if one.untried and not one.rules:
            yield _missing_suite(one)
        elif one.untried:
            yield f"{one.kind} '{one.name}': not all rules were tried; remove what deselects them."
        elif not one.passed and not one.failed:
            yield f"{one.kind} '{one.name}': every rule was skipped; try it where it can run."
    yield from found.failed


def _missing_suite(one: Verdict) -> str:
    suite = f"{one.kind.capitalize()}Contract"
    return (
        f"no test tries {one.kind} '{one.name}'. Write: from llama_core.testing import {suite}; "
        f"class TestIt({suite}): provides = {one.name!r}"
    )


@click.command("check", epilog="Example: llama plugins check .")
@click.argument(
    "path", type=click.Path(exists=True, path_type=Path), default=".", metavar="[FOLDER|WHEEL]"
)
@click.option(
    "--no-isolation",
    is_flag=True,
    help="Build with the build backend installed here, without the network.",
)
@json_option
@click.pass_context
def check(ctx: click.Context, path: Path, no_isolation: bool, as_json: bool) -> None:
    """Check a plugin: its manifest, its wheel, and whether it conforms; exits with 1 if not.

    A folder is built into a wheel, and the wheel tried with the folder's tests. A wheel is tried
    with the bare conformance suites of what it provides. The wheel is read before it is unpacked,
    and runs in a child process only, in an environment made for it and removed again.
    """
    with _told_on_terminals() as say:
        checking = Checking(say)
        if path.is_dir():
            check_project(path.resolve(), checking, isolated=not no_isolation)
        else:
            check_wheel(path, checking)
    emit(_facts(checking), as_json, lambda: _lines(checking))
    ctx.exit(0 if checking.passed else 1)


def _facts(checking: Checking) -> dict[str, Any]:
    wheel, outcome = checking.wheel, checking.outcome
    return {
        "passed": checking.passed,
        "plugin": wheel.plugin if wheel else None,
        "version": wheel.version if wheel else None,
        "steps": [asdict(step) for step in checking.steps],
        "conformance": [asdict(one) for one in outcome.verdicts] if outcome else [],
    }


def _lines(checking: Checking) -> Iterator[str]:
    for step in checking.steps:
        yield f"{'passed' if step.passed else 'FAILED':7} {step.name:12} {step.found}"
        for each in step.details:
            yield from (f"        {line}" for line in each.splitlines())


@contextmanager
def _told_on_terminals() -> Iterator[Callable[[str], None]]:
    """A line about what is under way, on a terminal, wiped away at the end."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    with Console(stderr=True).status("") as status:
        yield lambda name: status.update(f"checking: {name}")
