"""Whether what a wheel provides keeps to its contracts, tried in a child process.

The child runs the tests of the project, or where there are none the bare suite of each capability.
Every capability needs a suite of its kind, all of whose rules were tried and none of which failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llama_core import options
from llama_core.discovery import Found, discover
from llama_core.errors import LlamaError
from llama_core.manifest import Manifest, Provides
from llama_marketplace.author import surroundings
from llama_marketplace.author.building import last_lines
from llama_marketplace.author.tally import REPORT

TEST_SECONDS = 1800  # a watchdog


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of the suite of one capability."""

    kind: str
    name: str
    rules: int
    passed: int
    skipped: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()  # a line each: the rule, and what was found
    untried: bool = False  # there is no suite, or not all of its rules ran

    @property
    def conforms(self) -> bool:
        return self.passed > 0 and not self.failed and not self.untried


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of all the tests."""

    verdicts: tuple[Verdict, ...]
    tests: int  # beside the rules of suites
    failed: tuple[str, ...] = ()  # of those

    @property
    def conforms(self) -> bool:
        return not self.failed and all(each.conforms for each in self.verdicts)


def conformance(
    wheel: Path,
    manifest: Manifest,
    place: Path,
    project: Path | None = None,
    tests: Path | None = None,
) -> Outcome:
    """Try an inspected wheel in `place`, an empty folder; with its project's tests, or some."""
    _need_pytest()
    sources = [project, project / "src"] if project else []
    python = surroundings.environment(wheel, place / "env", sources)
    if tests is None and project is not None and (project / "tests").is_dir():
        tests = project / "tests"
    root = place if tests is None or project is None else project
    if tests is None:
        tests = place / "tests"
        _write_suites(manifest, place / "env", tests)
    report = place / "report.json"
    said = _run(python, tests, root, report)
    if not report.is_file():
        raise LlamaError("the tests did not run: " + last_lines(said))
    return judge(manifest, json.loads(report.read_text("utf-8")))


def judge(manifest: Manifest, report: Mapping[str, Any]) -> Outcome:
    """The report of the child, held against what the manifest claims."""
    suites = {(each["kind"], each["name"]): each for each in report["suites"]}
    verdicts = tuple(_verdict(one, suites.get((one.kind, one.name))) for one in manifest.provides)
    others = tuple(f"{name}: {why}" for name, why in report["failed"].items())
    return Outcome(verdicts, report["tests"], (*others, *report["broken"]))


def _verdict(one: Provides, suite: Mapping[str, Any] | None) -> Verdict:
    if suite is None:
        return Verdict(one.kind, one.name, 0, 0, untried=True)
    failed = tuple(f"{rule}: {why}" for rule, why in suite["failed"].items())
    skipped = tuple(suite["skipped"])
    untried = len(suite["seen"]) < suite["rules"]
    return Verdict(one.kind, one.name, suite["rules"], suite["passed"], skipped, failed, untried)


def _need_pytest() -> None:
    from importlib.util import find_spec

    if find_spec("pytest") is None:
        remedy = 'pip install "llama-core[testing]"'
        raise LlamaError("the conformance suites need pytest", remedy=remedy)


def _write_suites(manifest: Manifest, env: Path, tests: Path) -> None:
    [found] = [
        one for one in discover([str(surroundings.packages_of(env))]) if one.name == manifest.name
    ]
    tests.mkdir()
    (tests / "test_conformance.py").write_text(suites(manifest, found), "utf-8")


def suites(manifest: Manifest, found: Found) -> str:
    """Test classes that name a capability each, and give what its options require."""
    lines = ["from llama_core.testing import contract", ""]
    for number, one in enumerate(manifest.provides):
        lines += [
            "",
            f"class Test{number}(contract({one.kind!r})):",
            f"    provides = {one.name!r}",
            f"    plugin = {manifest.name!r}",
            f"    options = ({_required(one, found)!r},)",
            "",
        ]
    return "\n".join(lines)


def _required(one: Provides, found: Found) -> dict[str, Any]:
    """The options that must be given: the first of the examples that the schema has."""
    declared = options.schema(one, plugin=found) or {}
    known = declared.get("properties", {})
    examples = {name: known.get(name, {}).get("examples") for name in declared.get("required", ())}
    return {name: each[0] for name, each in examples.items() if each}


def _run(python: Path, tests: Path, root: Path, report: Path) -> str:
    command = [
        str(python), "-P", "-m", "pytest", str(tests), "--rootdir", str(root), "-q",
        "-p", "no:cacheprovider", "-p", "llama_marketplace.author.tally",
    ]  # fmt: skip
    env = {**surroundings.bare(network=False), REPORT: str(report), "PYTHONDONTWRITEBYTECODE": "1"}
    ran = subprocess.Popen(  # noqa: S603 - pytest in the environment just made, no shell
        command,
        cwd=root,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=os.name != "nt",
    )
    try:
        said, _ = ran.communicate(timeout=TEST_SECONDS)
    except subprocess.TimeoutExpired:
        _end(ran)
        raise LlamaError(f"the tests did not end within {TEST_SECONDS} s") from None
    except BaseException:
        _end(ran)
        raise
    return said


def _end(ran: subprocess.Popen[str]) -> None:
    if sys.platform == "win32":
        ran.kill()
    else:
        import signal

        os.killpg(ran.pid, signal.SIGKILL)  # with whatever the tests have started
    ran.wait()
