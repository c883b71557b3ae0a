"""What an installation will do, decided before anything of it is fetched.

Plugins come from the indexes that the user trusts, what they need besides from the package index,
and what is here already from here. A plan says all of it, and can be printed and thrown away.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from llama_core.errors import did_you_mean, sentence
from llama_marketplace.index.record import normal
from llama_marketplace.install.base import Base, Need, Offer, Reach, needs, reach
from llama_marketplace.install.choosing import Chosen, choose, choose_locked
from llama_marketplace.install.faults import CannotResolve, InstallFailed
from llama_marketplace.install.generations import Dist, Generation, Generations
from llama_marketplace.install.machine import Machine
from llama_marketplace.install.packages import Package, Packages
from llama_marketplace.sources import Source, find, first, owner


@dataclass(frozen=True, slots=True)
class Wanted:
    """A plugin by the name of its distribution; `wheel` takes one of its files by name."""

    name: str
    versions: SpecifierSet = field(default_factory=SpecifierSet)
    wheel: str | None = None


@dataclass(frozen=True, slots=True)
class Pick:
    """A plugin to be fetched, and the index that signs for it."""

    source: Source
    chosen: Chosen

    @property
    def offer(self) -> Offer:
        record = self.chosen.record
        return Offer(record.version, tuple(map(Requirement, record.requires)))


@dataclass(frozen=True, slots=True)
class Plan:
    """The next generation, in words."""

    before: Generation
    picks: tuple[Pick, ...] = ()
    packages: tuple[Package, ...] = ()
    kept: tuple[Dist, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gone(self) -> tuple[Dist, ...]:
        """What is in force now and will not be, neither in this version nor in another."""
        names = {each.chosen.record.name for each in self.picks}
        names |= {each.name for each in self.packages} | {each.name for each in self.kept}
        return tuple(each for each in self.before.dists if each.name not in names)

    @property
    def changes(self) -> bool:
        return bool(self.picks or self.packages or self.gone)


class Planner:
    """Plans for one environment, from the indexes given."""

    def __init__(
        self,
        sources: Sequence[Source],
        generations: Generations,
        packages: Packages,
        machine: Machine | None = None,
    ) -> None:
        self.sources = sources
        self.generations = generations
        self.packages = packages
        self.machine = machine or Machine()
        self.base = Base()

    def install(self, wanted: Iterable[Wanted]) -> Plan:
        """These plugins too; each in the newest version that fits and was asked for."""
        before = self.generations.current()
        kept = dict(before.plugins)
        picks: dict[str, Pick] = {}
        for each in wanted:
            self._refuse_unmanaged(each.name)
            pick = self._pick(each)
            old = kept.get(each.name)
            if old is None or old.sha256 != pick.chosen.file.sha256:
                picks[each.name] = pick
                kept.pop(each.name, None)
        return self._settle(before, kept, picks)

    def update(self, names: Iterable[str] = ()) -> Plan:
        """These plugins, or all, in their newest version that fits."""
        before = self.generations.current()
        kept, notes = dict(before.plugins), []
        picks: dict[str, Pick] = {}
        for name in [self._managed(before, each) for each in names] or sorted(kept):
            old = kept[name]
            pick = self._pick(Wanted(name))
            new = pick.chosen.record
            if new.version == old.version:
                continue
            if Version(new.version) < Version(old.version):
                why = next(
                    (p.why for p in pick.chosen.newer if p.name == old.version), "not offered"
                )
                notes.append(f"{name} goes back from {old.version}, which is {why}")
            picks[name] = pick
            del kept[name]
        return self._settle(before, kept, picks, notes)

    def uninstall(self, names: Iterable[str]) -> Plan:
        """Without these plugins, and without what only they needed."""
        before = self.generations.current()
        gone = {self._managed(before, name) for name in names}
        kept = {name: each for name, each in before.plugins.items() if name not in gone}
        for each in kept.values():
            for need in needs(each.name, map(Requirement, each.requires)):
                if need.name in gone:
                    raise InstallFailed(
                        f"{each.name} needs {need.name}",
                        remedy=f"llama marketplace uninstall {need.name} {each.name}",
                    )
        return self._settle(before, kept, {})

    def exactly(self, dists: Sequence[Dist]) -> Plan:
        """These distributions by their digests and no others, as a lock file names them."""
        before = self.generations.current()
        here = {each.sha256: each for each in before.dists}
        kept = [here[each.sha256] for each in dists if each.sha256 in here]
        picked = [self._locked(e) for e in dists if e.sha256 not in here and e.plugin]
        packages = [
            Package(each.name, each.version, each.filename, each.sha256, each.url or "")
            for each in dists
            if each.sha256 not in here and not each.plugin
        ]
        for each in dists:
            self._refuse_unmanaged(each.name)
        picks = tuple(pick for pick, _ in picked)
        notes = tuple(note for _, note in picked if note)
        return Plan(before, picks, tuple(packages), tuple(kept), notes)

    # ---- finding out -----------------------------------------------------------------------

    def _pick(self, wanted: Wanted) -> Pick:
        source, releases = find(wanted.name, self.sources)
        old = self.generations.current().plugins.get(wanted.name)
        if old is not None and (old.source, old.publisher) != (source.name, releases[0].publisher):
            raise InstallFailed(
                f"{wanted.name} was installed from {old.publisher} of '{old.source}', and now "
                f"{releases[0].publisher} of '{source.name}' offers it",
                remedy="If that is meant, uninstall it first.",
            )
        return Pick(source, choose(releases, wanted.versions, self.machine, wheel=wanted.wheel))

    def _locked(self, dist: Dist) -> tuple[Pick, str | None]:
        asked = owner(dist.name, self.sources)
        found = first(dist.name, asked)
        if found is None:
            where = ", ".join(f"'{each.name}'" for each in asked) or "any index"
            raise CannotResolve(
                f"{dist.filename}, which the lock file names, was locked from '{dist.source}', and "
                f"there is no {dist.name} in {where} now",
                remedy="Trust the index that it was locked from, if that is another: llama "
                "marketplace indexes add --help. If it was removed, where the lock file was "
                f"written: llama marketplace uninstall {dist.name}, then llama marketplace lock",
            )
        source, releases = found
        chosen, note = choose_locked(dist, releases, self.machine, source.name)
        return Pick(source, chosen), note

    def _settle(
        self,
        before: Generation,
        kept: Mapping[str, Dist],
        picks: dict[str, Pick],
        notes: Iterable[str] = (),
    ) -> Plan:
        """Follow what all plugins need; what was fetched for the last generation is kept."""
        try:
            return self._follow(before, kept, dict(picks), before.needed, notes)
        except CannotResolve:
            if not before.needed:
                raise
        return self._follow(before, kept, dict(picks), {}, notes)

    def _follow(
        self,
        before: Generation,
        kept: Mapping[str, Dist],
        picks: dict[str, Pick],
        needed: Mapping[str, Dist],
        notes: Iterable[str],
    ) -> Plan:
        while True:
            beside = {name: _offer(each) for name, each in {**needed, **kept}.items()}
            beside |= {name: each.offer for name, each in picks.items()}
            roots = [Need("you", Requirement(name)) for name in (*kept, *picks)]
            reached = reach(roots, self.base, beside)
            plugins = [each for each in reached.missing if self._is_plugin(each.name)]
            if not plugins:
                break
            for each in plugins:
                picks[each.name] = self._pick(Wanted(each.name, each.requirement.specifier))
        packages = self._fetchable(reached, needed, {**kept, **picks})
        staying = {name: each for name, each in needed.items() if name in reached.used}
        staying |= {each: needed[each] for each in packages if each in needed}
        deprecated = [
            f"{each.chosen.record.name} is deprecated: {each.chosen.record.status.reason}"
            for each in picks.values()
            if each.chosen.record.status.status == "deprecated"
        ]
        return Plan(
            before,
            tuple(picks.values()),
            tuple(each for name, each in packages.items() if name not in needed),
            (*kept.values(), *staying.values()),
            (*notes, *deprecated, *self._near_names(picks)),
        )

    def _fetchable(
        self, reached: Reach, needed: Mapping[str, Dist], plugins: Mapping[str, object]
    ) -> dict[str, Package]:
        """What the package index has of what is missing; pip is not even started for nothing."""
        if not reached.missing:
            return {}
        pins = {name: each.version for name, each in needed.items()}
        wanted = [each.requirement for each in reached.missing]
        found = self.packages.resolve(wanted, self.base.versions(), pins)
        for each in found:
            if each.name in plugins or self._is_plugin(each.name):
                raise CannotResolve(
                    f"{each.name} is a plugin of an index that you trust, and something that is "
                    "needed asks the package index for it"
                )
        return {each.name: each for each in found}

    def _is_plugin(self, name: str) -> bool:
        return any(
            each.name == name
            for source in owner(name, self.sources)
            for each in source.summaries([name])
        )

    def _near_names(self, picks: Mapping[str, Pick]) -> Iterable[str]:
        """A name that is nearly another publisher's may be a trap; it is said, not refused."""
        for name, pick in picks.items():
            mine = pick.chosen.record.publisher
            theirs = [each for each in pick.source.near(name) if each.publisher != mine]
            if theirs:
                yield (
                    f"{name} by {mine} has nearly the name of {theirs[0].name} by "
                    f"{theirs[0].publisher}: is it the one that you mean?"
                )

    def _refuse_unmanaged(self, name: str) -> None:
        version = self.base.versions().get(name)
        if version is not None:
            raise InstallFailed(
                f"{name} {version} is in this environment already, installed by pip or the like, "
                "and a second one would not be found",
                remedy=f"pip install --upgrade {name}, or pip uninstall {name} and install it here",
            )

    def _managed(self, before: Generation, name: str) -> str:
        """A plugin by the name of its distribution, or by its own."""
        for each in before.plugins.values():
            if name in (each.name, each.plugin):
                return each.name
        if normal(name) in self.base.versions():
            raise InstallFailed(
                f"{name} was not installed from here", remedy=f"pip uninstall {normal(name)}"
            )
        known = [*before.plugins, *(str(each.plugin) for each in before.plugins.values())]
        raise InstallFailed(
            f"there is no {name} installed", remedy=sentence(did_you_mean(name, known)) or None
        )


def _offer(dist: Dist) -> Offer:
    return Offer(dist.version, tuple(map(Requirement, dist.requires)))
