"""`llama marketplace publish`: wheels inspected, tried, recorded and signed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from llama_core.cli.output import emit, json_option
from llama_core.cli.progress import progress
from llama_core.errors import LlamaError
from llama_marketplace.cli.operating import (
    FILE,
    begin_offer,
    check_offer,
    keys_option,
    offer_options,
    open_index,
    open_keys,
    told_of,
)

if TYPE_CHECKING:
    from datetime import datetime

    from llama_marketplace.index.record import Record
    from llama_marketplace.wheels import Inspected

log = logging.getLogger("llama_core.marketplace")


@click.command(
    "publish",
    epilog="Example: llama marketplace publish dist/*.whl --publisher acme --with-wheels "
    "--index index --keys keys",
)
@click.argument("wheels", type=FILE, nargs=-1, required=True)
@click.option("--publisher", required=True, help="Under whose name; its key must be at hand.")
@click.option("--with-wheels", is_flag=True, help="Put the wheels into the index itself.")
@click.option("--wheels-at", metavar="URL", help="The folder on the web where the wheels lie.")
@click.option(
    "--needs", "needs", multiple=True, metavar="WHEEL:DEVICE",
    help="What a wheel is for, as in 'x-1.0-py3-none-any.whl:cuda>=12.4'.",
)  # fmt: skip
@click.option(
    "--suite", "suites", type=FILE, multiple=True,
    help="A project's tests with the suites, where bare ones cannot know enough.",
)  # fmt: skip
@offer_options
@keys_option
@json_option
def command(
    wheels: tuple[Path, ...], publisher: str, with_wheels: bool, wheels_at: str | None,
    needs: tuple[str, ...], suites: tuple[Path, ...], folder: Path | None, offer: Path | None,
    source: str | None, places: tuple[Path, ...], as_json: bool,
) -> None:  # fmt: skip
    """Publish one or more versions of plugins, from their wheels.

    Each wheel is read without importing it and held to the rules for plugins; then the conformance
    suites of what it provides run in an environment of their own, in a child process: bare ones, or
    those of a file that --suite names, as a project's tests/test_contract.py.

    With --index this changes the index in that folder, with the keys of its roles. With --offer it
    needs the publisher's key alone, and writes what the operator of an index takes in.
    """
    from llama_marketplace.publish.repository import Repository, current_time

    if with_wheels == bool(wheels_at):
        raise click.UsageError("say either --with-wheels or --wheels-at URL")
    check_offer(folder, offer, source)
    ring, now = open_keys(places), current_time()
    # What is no index, or not the publisher's, is noticed before minutes of tests.
    offered = begin_offer(source, publisher, ring) if folder is None else None
    if folder is not None:
        Repository.open(folder, now)
    inspected = _inspect(wheels)
    records = _record(inspected, publisher, now, _needs(needs), suites, wheels_at)
    files = [each.path for each in inspected]
    signed = [publisher]
    if offered is not None and offer is not None:
        before = [offered.held(each) for each in records]
        offered.add(records, files)
        offered.write(offer)
    else:
        assert folder is not None
        index = open_index(folder)
        before = [index.held(each) for each in records]
        for warning in index.add(records, files if with_wheels else []):
            log.warning("%s", warning)
        signed = index.commit(ring)
    facts: dict[str, Any] = {
        "published": [
            {
                "name": each.name,
                "version": each.version,
                "files": [one.filename for one in each.files if one.filename not in held],
                "before": [one.filename for one in each.files if one.filename in held],
                "conformance": [one.suite for one in each.conformance],
            }
            for each, held in zip(records, before, strict=True)
        ],
        "signed": signed,
        "offer": None if offer is None else str(offer),
    }

    def lines() -> list[str]:
        if offered is None or offer is None:
            return [_told(each, publisher, str(folder)) for each in facts["published"]]
        what = [f"{each.name} {each.version} is signed by {publisher}" for each in records]
        return [*what, told_of(offer, offered.index)]

    emit(facts, as_json, lines)


def _told(facts: dict[str, Any], publisher: str, folder: str) -> str:
    """What is new of a version: `add` has refused wheels with a name that is there, and other
    bytes."""
    what, before = f"{facts['name']} {facts['version']}", ", ".join(facts["before"])
    if not facts["files"]:
        return f"{what} was in {folder} before, with the same bytes: {before}"
    added = f": {', '.join(facts['files'])}; there before, with the same bytes: {before}"
    return f"{what} is published by {publisher} in {folder}{added if before else ''}"


def _inspect(files: Sequence[Path]) -> list[Inspected]:
    from llama_marketplace.wheels import inspect

    with progress("Reading", len(files)) as step:
        found = []
        for file in files:
            found.append(inspect(file))
            step()
    return found


def _record(
    wheels: Sequence[Inspected],
    publisher: str,
    now: datetime,
    needs: dict[str, dict[str, str]],
    suites: Sequence[Path],
    wheels_at: str | None,
) -> list[Record]:
    from llama_marketplace.publish.recording import (
        by_version,
        projects,
        record_of,
        runs_here,
        try_out,
    )

    tests = projects(suites)
    groups = by_version(wheels)
    names = {each.filename for each in wheels}
    if unknown := set(needs) - names:
        raise LlamaError(f"--needs names {sorted(unknown)[0]}, which is not published here")
    if other := set(tests) - {each.name for each in wheels}:
        raise LlamaError(f"--suite is of {sorted(other)[0]}, which is not published here")
    records = []
    with progress("Trying", len(groups)) as step:
        for group in groups:
            found: list[dict[str, Any]] = []
            here = next((each for each in group if runs_here(each)), None)
            if here is None:
                log.warning(
                    "%s %s runs on other machines than this, so it was not tried",
                    group[0].name, group[0].version,
                )  # fmt: skip
            else:
                found = try_out(here, now, tests.get(here.name))
            mine = {each.filename: needs[each.filename] for each in group if each.filename in needs}
            record = record_of(
                group, publisher=publisher, now=now, needs=mine, wheels_at=wheels_at,
                conformance=found,
            )  # fmt: skip
            records.append(record)
            step()
    return records


def _needs(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """`WHEEL:cuda>=12.4` and `WHEEL:cpu=avx2`, by wheel."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        wheel, colon, rest = text.rpartition(":")
        device = next((each for each in ("cuda", "rocm", "cpu") if rest.startswith(each)), None)
        value = rest[len(device) :].lstrip() if device else ""
        if not colon or not device or not value:
            raise click.UsageError(f"--needs {text!r} is not WHEEL:DEVICE, as in x.whl:cuda>=12.4")
        found.setdefault(wheel, {})[device] = value.lstrip("=") if device == "cpu" else value
    return found
