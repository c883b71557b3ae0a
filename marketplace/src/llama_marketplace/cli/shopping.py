"""What the commands of users share: indexes, freshened; names as people write them; plans told.

Each command says what it does in its own module; nothing is decided here.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from llama_core import overlay
from llama_core.cli.output import emit
from llama_core.cli.progress import progress
from llama_core.errors import LlamaError, did_you_mean, plain

if TYPE_CHECKING:
    from llama_marketplace.install.planning import Plan, Planner, Wanted
    from llama_marketplace.install.smoke import Trial
    from llama_marketplace.install.transaction import Progress
    from llama_marketplace.sources import Source

log = logging.getLogger("llama_core.marketplace")

MIB = 1 << 20

packages_option = click.option(
    "--package-index",
    metavar="URL",
    help="Where what plugins need besides comes from; pip's own index by default.",
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Say what would be done.")


def indexes(*, now: bool = False) -> list[Source]:
    """The indexes that are trusted, asked for what is new: `now`, or unless that was done a moment
    ago."""
    from llama_marketplace.sources import configured

    found = configured()
    if not found:
        raise LlamaError("no index is trusted yet", remedy="llama marketplace indexes add --help")
    for each in found:
        each.refresh() if now else each.freshen()
    _note_withdrawn(found)
    return found


def _note_withdrawn(sources: Sequence[Source]) -> None:
    if not (overlay.home() / overlay.POINTER).exists():
        return  # nothing was ever installed
    from llama_marketplace.install.generations import Generations
    from llama_marketplace.install.withdrawing import write_down

    try:
        write_down(Generations(), sources)
    except (LlamaError, OSError) as error:  # whoever searches need not have a whole generation
        log.warning("what was taken back is not written down: %s", error)


def planner(package_index: str | None) -> Planner:
    """For this environment, from all indexes as they are now: what is installed is to be new, and
    nothing that was taken back a moment ago."""
    from llama_marketplace.install.generations import Generations
    from llama_marketplace.install.packages import Packages
    from llama_marketplace.install.planning import Planner

    return Planner(indexes(now=True), Generations(), Packages(package_index))


def wanted(text: str, sources: Sequence[Source], wheel: str | None = None) -> Wanted:
    """A plugin as it was typed: by its own name or its distribution's, a range behind it or not."""
    from packaging.requirements import InvalidRequirement, Requirement

    from llama_marketplace.errors import IndexFailed, RecordRefused
    from llama_marketplace.index.record import normal
    from llama_marketplace.install.planning import Wanted

    try:
        asked = Requirement(text)
    except InvalidRequirement as error:
        raise click.UsageError(
            f"'{plain(text)}' is no plugin's name, with a range as in 'NAME>=1.2' or without"
        ) from error
    if asked.url or asked.extras or asked.marker:
        raise click.UsageError(f"'{plain(text)}': a name and a range are all that can be asked for")
    name = normal(asked.name)
    called, refused = {}, None
    for each in reversed(sources):  # the first index wins
        for found, line in each.lines([name]):
            try:
                one = each.read(line) if found == name else each.valid(line)
            except RecordRefused as error:
                refused = error
                continue
            if one is not None:
                called[one.plugin] = one.name
    if name not in called and name not in called.values():
        if refused is not None:
            raise refused
        every = [one for each in sources for one in each.summaries()]
        known = [text for one in every for text in (one.plugin, one.name)]
        where = ", ".join(each.name for each in sources)
        near = did_you_mean(name, known)
        raise IndexFailed(f"there is no plugin '{name}' in {where}", remedy=near or None)
    return Wanted(called.get(name, name), asked.specifier, wheel)


@contextmanager
def fetching(plan: Plan) -> Iterator[Progress]:
    """A bar over all bytes of a plan, where there are enough of them to wait for."""
    num_bytes = sum(each.chosen.file.size for each in plan.picks)
    total = max(1, num_bytes // MIB)
    with progress("fetching (MiB)", total) as tick:
        yield _by_mib(tick)


def _by_mib(tick: Callable[[], None]) -> Progress:
    pending = 0

    def count(num_bytes: int) -> None:
        nonlocal pending
        pending += num_bytes
        while pending >= MIB:
            pending -= MIB
            tick()

    return count


def carry_out(planner: Planner, plan: Plan, trial: Trial | None = None) -> int:
    """Do what the plan says; gives the number of the generation that is then in force."""
    from llama_marketplace.install import transaction

    if not plan.changes:
        return plan.before.number
    with fetching(plan) as count:
        new = transaction.carry_out(
            plan, planner.generations, planner.packages, planner.base, count, trial
        )
    return new.number


def finish(
    planner: Planner, plan: Plan, *, done: str, nothing: str, dry_run: bool, as_json: bool,
    trial: Trial | None = None,
) -> None:  # fmt: skip
    """Carry a plan out, unless it is only to be told, and tell it."""
    number = plan.before.number if dry_run else carry_out(planner, plan, trial)
    if not plan.changes:
        last = nothing
    elif dry_run:
        last = "nothing was done: --dry-run"
    else:
        last = f"{done} as generation {number}; to take it back: llama marketplace rollback"
    told = {**facts(plan), "generation": number, "done": plan.changes and not dry_run}
    emit(told, as_json, lambda: [*lines(plan), last])


def facts(plan: Plan) -> dict[str, Any]:
    """A plan as one object."""
    before = plan.before.plugins
    return {
        "plugins": [
            {
                "name": each.chosen.record.name,
                "version": each.chosen.record.version,
                "before": before[each.chosen.record.name].version
                if each.chosen.record.name in before
                else None,
                "plugin": each.chosen.record.plugin,
                "publisher": each.chosen.record.publisher,
                "index": each.source.name,
                "wheel": each.chosen.file.filename,
                "sha256": each.chosen.file.sha256,
                "bytes": each.chosen.file.size,
                "why": each.chosen.why,
                "permissions": list(each.chosen.record.permissions),
                "newer": {one.name: one.why for one in each.chosen.newer},
                "other_wheels": {one.name: one.why for one in each.chosen.wheels},
            }
            for each in plan.picks
        ],
        "packages": [
            {"name": each.name, "version": each.version, "sha256": each.sha256}
            for each in plan.packages
        ],
        "removed": [each.name for each in plan.gone],
        "notes": list(plan.notes),
    }


def lines(plan: Plan) -> Iterable[str]:
    """A plan for people."""
    before = plan.before.plugins
    for each in plan.picks:
        record, file = each.chosen.record, each.chosen.file
        old = before.get(record.name)
        was = f" (was {old.version})" if old else ""
        whose = f"by {record.publisher}, from '{each.source.name}'"
        yield f"{record.name} {record.version}{was} {whose}"
        yield f"  {file.filename}, {_size(file.size)}: {each.chosen.why}"
        if record.permissions:
            yield f"  it says that it uses: {', '.join(record.permissions)}"
        for one in each.chosen.newer:
            yield f"  not {one.name}: {one.why}"
        for one in each.chosen.wheels:
            yield f"  not {one.name}: {one.why}"
    for package in plan.packages:
        yield f"{package.name} {package.version}, which they need, from the package index"
    for gone in plan.gone:
        yield f"{gone.name} {gone.version} goes"
    for note in plan.notes:
        yield f"note: {note}"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / MIB:.1f} MiB" if num_bytes >= MIB else f"{num_bytes / 1024:.1f} KiB"
