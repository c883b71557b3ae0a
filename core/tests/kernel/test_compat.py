"""A contract's next version, rehearsed: plugins of this one go on working, and are told."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest

from llama_core.contracts import KINDS, spec
from llama_core.contracts.spec import Spec
from llama_core.deprecated import LlamaDeprecationWarning
from llama_core.errors import IncompatiblePlugin, PluginFault
from llama_core.testing.site import Site

Install = Callable[..., Path]


class TransformTwo(Protocol):
    """The rehearsed version 2: a transform also says whether it looks at the output so far."""

    is_stateless: bool

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        """The logits after this transform."""


def specs(kind: str, oldest: int = 1) -> Spec[Any]:
    if kind != "transform":
        return spec(kind)
    return replace(spec(kind), contract=TransformTwo, api=2, oldest=oldest)


class FromOne:
    """A transform of version 1 as one of version 2."""

    is_stateless = False

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, logits_NV: Any, context: Any) -> Any:
        return self.inner(logits_NV, context)


ADAPTERS = {("transform", 1): FromOne}
NATIVE = """
from llama_core import hookimpl

class Two:
    is_stateless = True
    def __call__(self, logits_NV, context):
        return logits_NV

@hookimpl
def llama_create_transform():
    return Two()
"""


class TestVersionTwo:
    def test_a_plugin_of_version_1_goes_on_working_and_is_told(
        self, site: Site, install: Install
    ) -> None:
        install("old")
        with site.plugins(specs=specs, adapters=ADAPTERS) as plugins:
            with pytest.warns(LlamaDeprecationWarning) as caught:
                made = plugins.create("transform", "old")
            assert isinstance(made, FromOne)
            assert (made("logits", None), made.is_stateless) == ("logits", False)
        assert str(caught[0].message) == (
            "version 1 of the transform contract, spoken by plugin 'old', is deprecated since "
            "llama-core 0.1 and goes in 0.3; use version 2 instead"
        )
        assert caught[0].filename == __file__  # it points at who asked

    def test_where_warnings_are_errors_the_plugin_is_not_at_fault(
        self, site: Site, install: Install
    ) -> None:
        install("old")
        with site.plugins(specs=specs, adapters=ADAPTERS) as plugins, warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(LlamaDeprecationWarning):
                plugins.create("transform", "old")
            assert plugins["old"].num_faults == 0

    def test_a_plugin_of_version_2_works_natively(self, site: Site, install: Install) -> None:
        install("new", NATIVE, capability={"api": 2})
        with site.plugins(specs=specs, adapters=ADAPTERS) as plugins:
            assert plugins.create("transform", "new").is_stateless is True

    def test_a_plugin_that_says_2_and_does_1_is_at_fault(
        self, site: Site, install: Install
    ) -> None:
        install("liar", capability={"api": 2})
        with (
            site.plugins(specs=specs, adapters=ADAPTERS) as plugins,
            pytest.raises(PluginFault, match="lacks 'is_stateless' of the contract TransformTwo"),
        ):
            plugins.create("transform", "liar")

    def test_version_3_is_refused_with_the_upgrade_line(self, site: Site, install: Install) -> None:
        install("newer", capability={"api": 3})
        with (
            site.plugins(specs=specs, adapters=ADAPTERS) as plugins,
            pytest.raises(IncompatiblePlugin) as caught,
        ):
            plugins.create("transform", "newer")
        assert str(caught.value) == (
            "plugin 'newer' provides transform 'newer' at contract version 3, and llama-core 0.1.0 "
            "serves 1 to 2. Upgrade llama-core; if the plugin is yours, write it for version 2."
        )

    def test_a_version_no_longer_served_is_refused_with_the_upgrade_line(
        self, site: Site, install: Install
    ) -> None:
        install("older")
        with (
            site.plugins(specs=lambda kind: specs(kind, oldest=2), adapters={}) as plugins,
            pytest.raises(IncompatiblePlugin) as caught,
        ):
            plugins.create("transform", "older")
        assert str(caught.value) == (
            "plugin 'older' provides transform 'older' at contract version 1, and llama-core 0.1.0 "
            "serves 2. Upgrade the plugin: pip install -U llama-plugin-older, or in a checkout: "
            "pip install -U ./plugins/older"
        )

    def test_version_0_is_no_version(self, site: Site, install: Install, said: list[str]) -> None:
        install("zero", capability={"api": 0})
        with site.plugins(specs=specs, adapters=ADAPTERS) as plugins:
            assert "api: Input should be greater than or equal to 1" in str(plugins["zero"].reason)
        assert len(said) == 1

    def test_an_adapter_that_fails_on_a_plugin_s_object_is_contained(
        self, site: Site, install: Install
    ) -> None:
        install("old")

        def picky(value: Any) -> Any:
            raise AttributeError("it has no such thing")

        with (
            site.plugins(specs=specs, adapters={("transform", 1): picky}) as plugins,
            pytest.warns(LlamaDeprecationWarning),
            pytest.raises(PluginFault, match="AttributeError: it has no such thing"),
        ):
            plugins.create("transform", "old")


class TestSpecs:
    @pytest.mark.parametrize("kind", KINDS)
    def test_every_contract_refuses_what_is_not_one(self, kind: str) -> None:
        found = spec(kind)
        name = found.contract.__name__
        assert found.kind == kind
        assert found.unfulfilled(None) == f"it answered nothing where a {name} was asked for"
        for junk in (5, "text", [], object()):
            assert f"of the contract {name}" in (found.unfulfilled(junk) or "")
        assert "it gave the class int where an object" in (found.unfulfilled(int) or "")
