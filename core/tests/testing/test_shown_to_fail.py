"""Every rule is seen to fail on a plugin that breaks it, and no other rule does."""

from __future__ import annotations

from typing import Any

import pytest
import specimens  # noqa: F401 - collects them
from specimens.harness import SPECIMENS, Outcomes, Specimen

from llama_core.contracts import KINDS
from llama_core.testing import contract, rules
from llama_core.testing.suite import rule_methods

GOOD = [one for one in SPECIMENS if one.breaks is None]
BROKEN = [one for one in SPECIMENS if one.breaks is not None]


@pytest.mark.parametrize("specimen", BROKEN, ids=str)
def test_exactly_the_broken_rule_fails(specimen: Specimen, outcomes: Outcomes) -> None:
    failed = outcomes.failed.get(specimen.plugin, {})
    assert list(failed) == [specimen.breaks], failed
    message = failed[specimen.breaks or ""]
    assert len(message) > 40, "the message must say what to do"
    assert specimen.says in message
    assert not specimen.keeps_to_itself or specimen.keeps_to_itself not in message


@pytest.mark.parametrize(
    ("plugin", "rule"),
    [
        ("site-absent", "test_activates_as_claimed"),
        ("site-no-options", "test_options_schema_is_valid"),
        ("site-bad-options", "test_options_schema_is_valid"),
    ],
)
def test_what_cannot_be_tried_names_the_rule_that_says_why(
    plugin: str, rule: str, outcomes: Outcomes
) -> None:
    assert "test_listing_imports_nothing" in outcomes.passed[plugin]
    skipped = outcomes.skipped[plugin]
    assert {"test_create_fulfils_the_contract", "test_is_deterministic"} <= set(skipped)
    assert [why for why in skipped.values() if rule not in why] == []


@pytest.mark.parametrize("specimen", GOOD, ids=str)
def test_a_good_plugin_passes(specimen: Specimen, outcomes: Outcomes) -> None:
    assert outcomes.failed.get(specimen.plugin, {}) == {}
    assert outcomes.passed[specimen.plugin]


def test_every_rule_has_a_broken_specimen() -> None:
    shown = {_rule(one.kind, one.breaks) for one in BROKEN if one.breaks}
    known = {_rule(kind, name) for kind in KINDS for name, _ in rules(kind)}
    assert sorted(method.__qualname__ for method in known - shown) == []


def test_every_rule_passes_on_some_good_specimen(outcomes: Outcomes) -> None:
    held = {_rule(one.kind, name) for one in GOOD for name in outcomes.passed[one.plugin]}
    known = {_rule(kind, name) for kind in KINDS for name, _ in rules(kind)}
    assert sorted(method.__qualname__ for method in known - held) == []


def test_specimens_name_rules_that_exist() -> None:
    for one in BROKEN:
        assert one.breaks in dict(rules(one.kind)), one


def _rule(kind: str, name: str) -> Any:
    """The function: a rule that several kinds share is one rule."""
    return rule_methods(contract(kind))[name]
