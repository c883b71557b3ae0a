"""The rules of a kind, for whoever documents or counts them. Runs nothing."""

from __future__ import annotations

from llama_core import testing
from llama_core.contracts import KINDS, spec
from llama_core.testing.suite import PluginContract, rule_methods


def contract(kind: str) -> type[PluginContract]:
    """The suite of a kind."""
    spec(kind)  # an unknown kind gets the error with the near misses
    found: type[PluginContract] = getattr(testing, f"{kind.capitalize()}Contract")
    return found


def rules(kind: str | None = None) -> list[tuple[str, str]]:
    """The id and the sentence of every rule of a kind; without one, of those all kinds share."""
    return sentences(PluginContract if kind is None else contract(kind))


def sentences(suite: type) -> list[tuple[str, str]]:
    """The same of one suite, or of rules that are mixed into suites."""
    return [
        (name, " ".join((method.__doc__ or "").split("\n\n")[0].split()))
        for name, method in rule_methods(suite).items()
    ]


def all_rules() -> dict[str, list[tuple[str, str]]]:
    """Every kind's own rules, without the shared ones."""
    shared = {name for name, _ in rules()}
    return {kind: [rule for rule in rules(kind) if rule[0] not in shared] for kind in KINDS}
