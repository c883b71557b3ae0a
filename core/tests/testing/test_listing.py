"""Rules can be listed without running anything, each with one sentence."""

from __future__ import annotations

import pytest

from llama_core import testing
from llama_core.contracts import KINDS
from llama_core.errors import LlamaError
from llama_core.testing import PluginContract, contract, rules
from llama_core.testing.listing import all_rules


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_a_suite_of_rules_with_a_sentence_each(kind: str) -> None:
    suite = contract(kind)
    assert issubclass(suite, PluginContract)
    assert suite.kind == kind
    assert suite.__name__ in testing.__all__
    listed = rules(kind)
    assert len(listed) == len(dict(listed)) > len(rules())
    for name, sentence in listed:
        assert name.startswith("test_")
        assert sentence[:1].isupper() or sentence[:1] == "`", name
        assert sentence.endswith("."), name
        assert len(sentence) < 120, name


def test_an_unknown_kind_is_an_error_with_the_near_misses() -> None:
    with pytest.raises(LlamaError, match="Did you mean 'sampler'"):
        rules("samplr")


def test_the_shared_rules_are_listed_once() -> None:
    shared = dict(rules())
    assert "test_manifest_is_valid" in shared
    for kind, own in all_rules().items():
        assert not shared.keys() & dict(own).keys(), kind
