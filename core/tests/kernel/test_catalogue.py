"""Policy, versions, platforms, requirements, conflicts: all decided before anything is imported."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from llama_core.catalogue import State
from llama_core.discovery import BUILTIN
from llama_core.errors import (
    CapabilityConflict,
    IncompatiblePlugin,
    LlamaError,
    ManifestError,
    MissingCapability,
    PluginDisabled,
    StrictError,
)
from llama_core.platforms import here
from llama_core.plugins import Plugins
from llama_core.testing.site import Site

Install = Callable[..., Path]
GREEDY = """
from llama_core import hookimpl

class Sampler:
    def __call__(self, logits_NV, uniforms_N, context):
        return "mine"

@hookimpl
def llama_create_sampler(name, options):
    return Sampler()
"""


@pytest.fixture(autouse=True)
def _imports_nothing_that_is_refused() -> Iterator[None]:
    before = set(sys.modules)
    yield
    assert not [m for m in set(sys.modules) - before if m.startswith("llama_plugin")]


def own(plugins: Plugins) -> list[str]:
    """The transforms that can be had, without the core's own."""
    usable = (one for one in plugins.capabilities("transform") if one.reason is None)
    return sorted(one.provides.name for one in usable if one.plugin.name != BUILTIN)


def refusal(plugins: Plugins, name: str, kind: str = "transform") -> LlamaError:
    """The error of whoever asks for a capability that is not to be had; nothing is imported."""
    before = set(sys.modules)
    with pytest.raises(LlamaError) as caught:
        plugins.create(kind, name)
    assert not {m for m in set(sys.modules) - before if m.startswith("llama_plugin")}
    return caught.value


class TestBroken:
    def test_a_broken_plugin_is_told_once_and_its_neighbour_works(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        site.add("bad", b"name = ")
        install("good")
        with site.plugins() as plugins:
            assert plugins.create("transform", "good")
            assert plugins["bad"].state is State.REFUSED
        (line,) = said
        assert line.startswith("plugin 'bad' is left out: ")
        assert "is not valid TOML" in line

    def test_asking_for_it_tells_why_not_to_install_it_again(self, site: Site) -> None:
        site.add("bad", b"name = ")
        with site.plugins() as plugins:
            error = refusal(plugins, "bad")
        assert isinstance(error, MissingCapability)
        assert "No usable plugin provides transform 'bad'. Plugin 'bad': " in str(error)
        assert "is not valid TOML" in str(error)

    def test_who_claims_builtin_takes_nothing_from_it(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("builtin", GREEDY, dist="evil", package="llama_plugin_evil")
        with site.plugins() as plugins:
            assert plugins.create("sampler", "greedy")
            assert plugins["builtin"].state is State.ACTIVE
            assert plugins["builtin (evil)"].state is State.REFUSED
        assert "evil claims the name 'builtin'" in said[0]

    def test_who_claims_a_taken_name_takes_nothing_from_its_owner(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("min-p")
        install("min-p", "1 / 0", dist="zz-other", package="llama_plugin_other")
        with site.plugins() as plugins:
            assert plugins.create("transform", "min-p")
            assert plugins["min-p"].state is State.ACTIVE
            assert plugins["min-p (zz-other)"].state is State.REFUSED
        assert any("zz-other claims the plugin name 'min-p'" in line for line in said)

    def test_hooks_from_outside_its_own_package_are_refused_before_they_run(
        self, site: Site, install: Install, tmp_path: Path
    ) -> None:
        sang = tmp_path / "sang"
        canary = f"open({str(sang)!r}, 'w')"
        install("sly", manifest={"module": "elsewhere.hooks"}, code={"elsewhere/hooks.py": canary})
        with site.plugins() as plugins:
            error = refusal(plugins, "sly")
            assert plugins["sly"].state is State.REFUSED
            assert isinstance(plugins["sly"].reason, ManifestError)
        assert "No usable plugin provides transform 'sly'" in str(error)
        assert "'elsewhere.hooks', outside its own package 'llama_plugin_sly'" in str(error)
        assert not sang.exists()

    def test_an_unknown_plugin_has_near_misses(self, site: Site, install: Install) -> None:
        install("min-p")
        with site.plugins() as plugins, pytest.raises(MissingCapability) as caught:
            plugins["minp"]
        assert str(caught.value) == (
            "no plugin called 'minp' is installed. Did you mean 'min-p'? `llama plugins list` "
            "shows all."
        )

    def test_a_missing_capability_has_near_misses_and_an_install_line(
        self, site: Site, install: Install
    ) -> None:
        install("min-p")
        with site.plugins() as plugins:
            error = refusal(plugins, "minp")
            assert error.code == "capability_missing"
            assert str(error) == (
                "No usable plugin provides transform 'minp'. Did you mean 'min-p'? `llama plugins "
                "list` shows what is here."
            )
            sing = str(refusal(plugins, "sing"))
            assert "A plugin may add that transform; the project's README lists" in sing
            assert "pip install" not in sing  # of a name that anybody may have registered
        install("market", capability={"kind": "command", "name": "marketplace"})
        with site.plugins() as plugins:
            sing = str(refusal(plugins, "sing"))
            assert "`llama marketplace search --kind transform` finds those that an" in sing
            assert "Usable here: bad-words, dry," in sing

    def test_an_unknown_kind_has_near_misses(self, site: Site) -> None:
        with site.plugins() as plugins:
            error = refusal(plugins, "x", kind="sampeler")
        assert "there is no kind of capability called 'sampeler'. Did you mean 'sampler'?" in str(
            error
        )

    def test_an_error_raised_often_does_not_grow(self, site: Site, install: Install) -> None:
        install("a", capability={"needs": {"os": ["windows"]}})
        with site.plugins() as plugins:
            for _ in range(10):
                refusal(plugins, "a")
            with pytest.raises(IncompatiblePlugin):
                plugins.activate("a")
            reason = plugins["a"].reason
        assert reason is not None
        assert reason.__traceback__ is None  # it would keep every frame that ever raised it


class TestFits:
    def test_a_plugin_for_a_newer_contract(self, site: Site, install: Install) -> None:
        install("new", capability={"api": 2})
        with site.plugins() as plugins:
            error = refusal(plugins, "new")
            assert plugins["new"].state is State.REFUSED
        assert isinstance(error, IncompatiblePlugin)
        assert str(error) == (
            "plugin 'new' provides transform 'new' at contract version 2, and llama-core 0.1.0 "
            "serves 1. Upgrade llama-core; if the plugin is yours, write it for version 1."
        )

    def test_what_it_provides_at_a_served_version_stays(self, site: Site, install: Install) -> None:
        both = [
            {"kind": "transform", "name": "old", "api": 1},
            {"kind": "transform", "name": "new", "api": 2},
        ]
        install("two", provides=both)
        with site.plugins() as plugins:
            assert own(plugins) == ["old"]
            assert "contract version 2" in str(refusal(plugins, "new"))
            assert plugins.create("transform", "old")

    @pytest.mark.parametrize(
        ("needs", "words"),
        [
            ({"os": ["windows", "macos"]}, "windows, macos"),
            ({"arch": ["riscv64"]}, "riscv64"),
            ({"os": ["linux", "macos", "windows"], "arch": ["s390x"]}, "windows, s390x"),
        ],
    )
    @pytest.mark.skipif(sys.platform != "linux", reason="the platforms here are those it is not")
    def test_a_platform_that_is_not_here(
        self, site: Site, install: Install, needs: dict[str, Any], words: str
    ) -> None:
        install("far", capability={"needs": needs})
        with site.plugins() as plugins:
            error = refusal(plugins, "far")
            assert own(plugins) == []
        assert str(error).startswith("transform 'far' of plugin 'far' runs on ")
        assert words in str(error)
        assert str(error).endswith(f", and this is {' '.join(here())}")

    def test_the_platform_that_is_here(self, site: Site, install: Install) -> None:
        os_name, arch = here()
        install("near", capability={"needs": {"os": [os_name], "arch": [arch, "other"]}})
        with site.plugins() as plugins:
            assert plugins.create("transform", "near")

    @pytest.mark.parametrize("core", ["llama-core>=9", "llama-core (<0.1)", "llama_core==0.0.1"])
    def test_a_distribution_whose_range_leaves_this_core_out(
        self, site: Site, install: Install, core: str, said: list[str]
    ) -> None:
        install("picky", requires=[core])
        with site.plugins() as plugins:
            error = refusal(plugins, "picky")
        expected = f"llama-plugin-picky 0.1.0 needs {core}, and llama-core 0.1.0 is here. "
        assert str(error) == f"{expected}pip install '{core}'"
        assert said == [f"plugin 'picky' is left out: {error}"]

    @pytest.mark.parametrize(
        "line",
        [
            "llama-core>=0.1",
            "llama-core[testing]>=99 ; extra == 'test'",
            "llama-core>=99 ; python_version < '3'",
            "llama-core>=not-a-version",
        ],
    )
    def test_a_range_that_holds_or_does_not_apply(
        self, site: Site, install: Install, line: str
    ) -> None:
        install("easy", requires=[line])
        with site.plugins() as plugins:
            assert plugins.create("transform", "easy")


class TestPolicy:
    def test_no_plugins_leaves_the_builtins(self, site: Site, install: Install) -> None:
        install("a")
        site.add("broken", b"name = ")
        with site.plugins(plugins=False) as plugins:
            assert plugins.create("sampler", "greedy")
            assert isinstance(refusal(plugins, "a"), PluginDisabled)
            assert str(refusal(plugins, "a")) == "plugin 'a' is off: --no-plugins"
            assert plugins["broken"].state is State.DISABLED

    def test_an_allow_list_keeps_out_the_rest(self, site: Site, install: Install) -> None:
        install("a")
        install("b")
        with site.plugins(allow=("a",), origin={"plugins.allow": "llama.toml"}) as plugins:
            assert plugins.create("transform", "a")
            assert plugins.create("sampler", "greedy")  # the builtins need no leave
            assert str(refusal(plugins, "b")) == (
                "plugin 'b' is not on the allow-list (llama.toml). Add it to [plugins] allow "
                "in llama.toml."
            )

    def test_an_empty_allow_list_allows_none(self, site: Site, install: Install) -> None:
        install("a")
        with site.plugins(allow=()) as plugins:
            assert "is not on the allow-list" in str(refusal(plugins, "a"))

    def test_a_disabled_plugin_is_kept_out_even_if_allowed(
        self, site: Site, install: Install
    ) -> None:
        install("a")
        with site.plugins(allow=("a",), disable=("a",)) as plugins:
            assert str(refusal(plugins, "a")) == (
                "plugin 'a' is disabled (config). llama plugins enable a"
            )

    def test_who_disables_what_is_broken_hears_no_more_of_it(
        self, site: Site, said: list[str]
    ) -> None:
        site.add("bad", b"name = ")
        with site.plugins(disable=("bad",)) as plugins:
            assert plugins["bad"].state is State.DISABLED
        assert said == []

    def test_the_environment_and_the_file_reach_the_policy(
        self,
        site: Site,
        install: Install,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        from llama_core.config import load_config

        install("a")
        install("b")
        (tmp_path / "llama.toml").write_text('[plugins]\ndisable = ["b"]\n')
        monkeypatch.setenv("LLAMA_CORE_PLUGINS", "b, a")
        config = load_config(start=tmp_path, user_file=tmp_path / "none")
        with site.plugins(config) as plugins:
            assert plugins.create("transform", "a")
            assert f"is disabled ({tmp_path / 'llama.toml'})" in str(refusal(plugins, "b"))
        monkeypatch.setenv("LLAMA_CORE_PLUGINS", "b")
        config = load_config(start=tmp_path, user_file=tmp_path / "none")
        with site.plugins(config) as plugins:
            assert "is not on the allow-list (environment)" in str(refusal(plugins, "a"))


class TestConflicts:
    def test_an_installed_plugin_replaces_a_builtin_and_says_so_once(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("mine", GREEDY, provides=[{"kind": "sampler", "name": "greedy", "api": 1}])
        with site.plugins() as plugins:
            for _ in range(3):
                assert plugins.create("sampler", "greedy")(None, None, None) == "mine"
        assert said == [
            "sampler 'greedy' of plugin 'mine' is used; the name is also provided by 'builtin'. "
            'Choose with [plugins.prefer] "sampler.greedy" = "NAME" in llama.toml.'
        ]

    def test_between_installed_plugins_the_first_by_name_is_used(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        for name in ("b", "a", "c"):
            install(name, capability={"name": "halve"})
        with site.plugins() as plugins:
            assert plugins.resolve("transform", "halve").plugin.name == "a"
        assert (
            "transform 'halve' of plugin 'a' is used; the name is also provided by 'b', 'c'"
            in said[0]
        )

    def test_the_preferred_plugin_is_used_without_a_word(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        for name in ("a", "b"):
            install(name, capability={"name": "halve"})
        with site.plugins(prefer={"transform.halve": "b"}) as plugins:
            assert plugins.resolve("transform", "halve").plugin.name == "b"
        with site.plugins(prefer={"sampler.greedy": "builtin"}) as plugins:
            assert plugins.resolve("sampler", "greedy").plugin.name == "builtin"
        assert said == []

    def test_a_preference_for_a_plugin_that_does_not_provide_it(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("a", capability={"name": "halve"})
        with site.plugins(prefer={"transform.halve": "zz"}) as plugins:
            error = refusal(plugins, "halve")
        assert said == [
            "plugins.prefer names plugin 'zz' for transform.halve, which it does not provide"
        ]
        assert "No usable plugin provides transform 'zz/halve'" in str(error)

    def test_a_preferred_plugin_that_cannot_run_is_not_replaced_in_silence(
        self, site: Site, install: Install
    ) -> None:
        install("a", capability={"name": "halve"})
        install("b", capability={"name": "halve", "api": 2})
        with site.plugins(prefer={"transform.halve": "b"}) as plugins:
            error = refusal(plugins, "halve")
        assert "Plugin 'b': plugin 'b' provides transform 'halve' at contract version 2" in str(
            error
        )

    def test_one_plugin_s_own_is_asked_for_by_its_name(self, site: Site, install: Install) -> None:
        for name in ("a", "b"):
            install(name, capability={"name": "halve"})
        with site.plugins(prefer={"transform.halve": "a"}, strict=True) as plugins:
            assert plugins.resolve("transform", "b/halve").plugin.name == "b"
            assert "'c/halve'" in str(refusal(plugins, "c/halve"))

    def test_strict_mode_does_not_choose(self, site: Site, install: Install) -> None:
        for name in ("a", "b"):
            install(name, capability={"name": "halve"})
        with site.plugins(strict=True) as plugins:
            error = refusal(plugins, "halve")
            assert isinstance(error, CapabilityConflict)
            assert str(error) == (
                "strict mode: transform 'halve' of plugin 'a' is used; the name is also provided "
                "by 'b'. "
                'Choose with [plugins.prefer] "transform.halve" = "NAME" in llama.toml.'
            )

    def test_falling_back_to_the_builtin_is_announced(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        provides = [{"kind": "sampler", "name": "greedy", "api": 2}]
        install("mine", GREEDY, provides=provides)
        with site.plugins() as plugins:
            assert plugins.resolve("sampler", "greedy").plugin.name == "builtin"
        assert said == [
            "sampler 'greedy' of plugin 'builtin' is used instead: plugin 'mine' provides sampler "
            "'greedy' at contract version 2, and llama-core 0.1.0 serves 1. Upgrade llama-core; if "
            "the plugin is yours, write it for version 1."
        ]
        with site.plugins(strict=True) as plugins, pytest.raises(StrictError, match="forbids"):
            plugins.resolve("sampler", "greedy")

    def test_what_the_user_disabled_is_no_fallback(
        self, site: Site, install: Install, said: list[str]
    ) -> None:
        install("mine", GREEDY, provides=[{"kind": "sampler", "name": "greedy", "api": 1}])
        with site.plugins(disable=("mine",), strict=True) as plugins:
            assert plugins.resolve("sampler", "greedy").plugin.name == "builtin"
        assert said == []


class TestRequirements:
    def needing(self, install: Install, name: str, *needs: dict[str, Any], **how: Any) -> None:
        install(name, manifest={"requires": list(needs)}, **how)

    def test_what_is_met_is_no_matter(self, site: Site, install: Install) -> None:
        install("b", version="0.3.0")
        self.needing(
            install,
            "a",
            {"kind": "transform", "name": "b", "version": ">=0.2,<1"},
            {"kind": "sampler"},
            {"kind": "sampler", "name": "greedy"},
        )
        with site.plugins() as plugins:
            assert plugins.create("transform", "a")
            assert "llama_plugin_b" not in sys.modules  # required is not yet used

    def test_missing_by_kind(self, site: Site, install: Install) -> None:
        self.needing(install, "a", {"kind": "router"})
        with site.plugins() as plugins:
            error = refusal(plugins, "a")
        assert str(error) == (
            "plugin 'a' requires any router: no plugin provides it. Install a plugin that provides "
            "a router; its author knows which."
        )

    def test_missing_by_name(self, site: Site, install: Install) -> None:
        self.needing(install, "a", {"kind": "transform", "name": "b"})
        with site.plugins() as plugins:
            error = refusal(plugins, "a")
        assert isinstance(error, IncompatiblePlugin)
        assert str(error) == (
            "plugin 'a' requires transform 'b': no plugin provides it. Install a plugin that "
            "provides a transform; its author knows which."
        )

    def test_missing_by_version(self, site: Site, install: Install) -> None:
        install("b", version="0.1.0")
        self.needing(install, "a", {"kind": "transform", "name": "b", "version": ">=0.2"})
        with site.plugins() as plugins:
            error = refusal(plugins, "a")
        assert str(error) == (
            "plugin 'a' requires transform 'b' >=0.2: llama-plugin-b 0.1.0 is installed. pip "
            "install 'llama-plugin-b>=0.2'"
        )

    def test_a_version_that_is_none_meets_no_range(self, site: Site, install: Install) -> None:
        install("b", version="banana")
        self.needing(install, "a", {"kind": "transform", "name": "b", "version": ">=0.2"})
        with site.plugins() as plugins:
            assert "llama-plugin-b banana is installed" in str(refusal(plugins, "a"))

    def test_a_disabled_one_is_missing(self, site: Site, install: Install) -> None:
        install("b")
        self.needing(install, "a", {"kind": "transform", "name": "b"})
        with site.plugins(disable=("b",)) as plugins:
            assert "requires transform 'b': plugin 'b' is disabled (config)" in str(
                refusal(plugins, "a")
            )

    def test_a_chain_is_followed_to_its_end(self, site: Site, install: Install) -> None:
        self.needing(install, "a", {"kind": "transform", "name": "b"})
        self.needing(install, "b", {"kind": "transform", "name": "c"})
        self.needing(install, "c", {"kind": "format", "name": "d"})
        with site.plugins() as plugins:
            error = refusal(plugins, "a")
        assert str(error) == (
            "plugin 'a' requires transform 'b': plugin 'b' requires transform 'c': plugin 'c' "
            "requires format 'd': no plugin provides it. Install a plugin that provides a format; "
            "its author knows which."
        )

    def test_a_circle_is_shown(self, site: Site, install: Install) -> None:
        for one, other in (("a", "b"), ("b", "c"), ("c", "a")):
            self.needing(install, one, {"kind": "transform", "name": other})
        with site.plugins() as plugins:
            for name in "abc":
                assert "the requirement is circular: " in str(refusal(plugins, name))
            assert "circular: a → b → c → a" in str(refusal(plugins, "a"))

    def test_a_plugin_cannot_meet_its_own_requirement(self, site: Site, install: Install) -> None:
        self.needing(install, "a", {"kind": "transform", "name": "a"})
        with site.plugins() as plugins:
            assert "the requirement is circular: a → a" in str(refusal(plugins, "a"))
        install("b", capability={"name": "a"})
        with site.plugins() as plugins:
            assert plugins.create("transform", "a")

    def test_a_way_round_a_circle_is_found(self, site: Site, install: Install) -> None:
        """b leads back to a, and c does not: whoever asks, all three can be had."""
        self.needing(install, "a", {"kind": "transform", "name": "x"})
        self.needing(install, "b", {"kind": "transform", "name": "a"}, capability={"name": "x"})
        install("c", capability={"name": "x"})
        with site.plugins() as plugins:
            assert plugins.create("transform", "a")
            assert plugins.create("transform", "b/x")

    def test_many_plugins_that_require_each_other_take_no_time(
        self, site: Site, install: Install
    ) -> None:
        """Following every path through these would take longer than the universe has."""
        for i in range(40):
            self.needing(install, f"p{i}", {"kind": "transform"}, {"kind": "router"})
        with site.plugins() as plugins:
            began = time.monotonic()
            error = refusal(plugins, "p0")
            assert time.monotonic() - began < 10
        assert "requires any router: no plugin provides it" in str(error)
        assert len(str(error)) < 20_000

    def test_a_long_chain_is_followed(self, site: Site, install: Install) -> None:
        for i in range(400):
            self.needing(install, f"p{i}", {"kind": "transform", "name": f"p{i + 1}"})
        with site.plugins() as plugins:
            error = str(refusal(plugins, "p0"))
            assert "plugin 'p5' requires transform 'p6': plugin 'p6' has requirements" in error
        install("p400")
        with site.plugins() as plugins:
            assert plugins.create("transform", "p0")
