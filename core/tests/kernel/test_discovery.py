"""Finding plugins by their metadata: imports nothing, and one that is broken hides no other."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from llama_core.discovery import BUILTIN, Found, builtin, discover
from llama_core.plugins import Plugins
from llama_core.testing.site import Site

MANIFEST = {"provides": [{"kind": "transform", "name": "x", "api": 1}]}
CANARY = "from pathlib import Path\nPath({file!r}).write_text('imported')\n"


def look(*sites: Site) -> dict[str, Found]:
    return {one.name: one for one in discover([str(each.folder) for each in sites])}


def error_of(found: Found) -> str:
    assert found.error is not None
    assert found.table is None or found.error
    return str(found.error)


def own(plugins: Plugins) -> list[str]:
    """The transforms that can be had, without the core's own."""
    usable = (one for one in plugins.capabilities("transform") if one.reason is None)
    return sorted(one.provides.name for one in usable if one.plugin.name != BUILTIN)


class TestImportsNothing:
    def test_a_canary_is_not_imported_by_looking(
        self, site: Site, tmp_path: Path, install: Callable[..., Path]
    ) -> None:
        file = tmp_path / "sang"
        install("canary", CANARY.format(file=str(file)))
        before = set(sys.modules)
        with site.plugins() as plugins:
            assert own(plugins) == ["canary"]
            assert plugins.resolve("transform", "canary").plugin.manifest is not None
            assert plugins["canary"].manifest is not None
            assert not {m for m in set(sys.modules) - before if m.startswith("llama_plugin")}
            assert not file.exists()
            with pytest.raises(Exception, match="not what its manifest says"):
                plugins.create("transform", "canary")
            assert file.exists()  # the canary does sing

    def test_a_thousand_plugins_are_found_in_order_and_none_is_imported(self, site: Site) -> None:
        for i in range(1000):
            provides = [{"kind": "transform", "name": f"t{i}", "api": 1}]
            site.add(f"p{i}", {"provides": provides}, {f"llama_plugin_p{i}/plugin.py": "1 / 0"})
        began = time.monotonic()
        with site.plugins() as plugins:
            seconds = time.monotonic() - began
            names = [one.name for one in plugins]
            assert len(own(plugins)) == 1000
        assert names == ["builtin", *sorted(names[1:])]
        assert len(names) == 1001
        assert not [name for name in sys.modules if name.startswith("llama_plugin_p")]
        assert seconds < 4  # a watchdog at ten times the goal

    def test_a_package_that_lies_elsewhere_is_found_without_importing_it(
        self, site: Site, tmp_path: Path
    ) -> None:
        """As an editable install leaves it: metadata here, package on another path entry."""
        sources = Site(tmp_path / "sources")
        home = sources.add("far", MANIFEST, {"llama_plugin_far/__init__.py": "1 / 0"})
        site.add("far", None, entry_point="llama_plugin_far")
        found = look(site, sources)["far"]
        assert found.location == home
        assert found.error is None
        assert "llama_plugin_far" not in sys.modules


class TestFound:
    def test_what_is_known_of_a_plugin(self, site: Site) -> None:
        home = site.add("min-p", MANIFEST, version="1.2.3", requires=["numpy", "llama-core>=0.1"])
        found = look(site)["min-p"]
        assert (found.package, found.dist, found.version) == (
            "llama_plugin_min_p",
            "llama-plugin-min-p",
            "1.2.3",
        )
        assert found.location == home
        assert found.needs_core == "llama-core>=0.1"
        assert found.error is None
        assert found.notes == ()

    def test_the_builtin_plugin_is_first_and_always_there(self, site: Site) -> None:
        assert [one.name for one in discover([str(site.folder)])] == ["builtin"]
        assert builtin().table is not None

    def test_a_dotted_package_is_found(self, site: Site) -> None:
        home = site.add("deep", MANIFEST, package="acme.plugins.deep")
        assert look(site)["deep"].location == home

    def test_one_distribution_may_bring_two_plugins(self, site: Site) -> None:
        site.add("a", MANIFEST)
        site.add("b", MANIFEST)
        info = site.folder / "llama_plugin_a-0.1.0.dist-info" / "entry_points.txt"
        info.write_text("[llama_core]\na = llama_plugin_a\nb2 = llama_plugin_b\n")
        assert {"a", "b", "b2"} < set(look(site))

    @pytest.mark.parametrize(
        ("line", "core"),
        [
            ("llama-core>=0.1", "llama-core>=0.1"),
            ("llama_core (>=0.1)", "llama_core (>=0.1)"),
            ("Llama.Core", "Llama.Core"),
            ("llama-core-extras>=9", None),
            ("llama-corelib", None),
            ('llama-core[testing]>=9 ; extra == "test"', None),
        ],
    )
    def test_only_the_line_about_the_core_is_its_range(
        self, site: Site, line: str, core: str | None
    ) -> None:
        site.add("a", MANIFEST, requires=[line])
        assert look(site)["a"].needs_core == core

    def test_a_readme_that_looks_like_headers_is_not_read(self, site: Site) -> None:
        site.add("a", MANIFEST)
        metadata = site.folder / "llama_plugin_a-0.1.0.dist-info" / "METADATA"
        metadata.write_text(metadata.read_text() + "\nVersion: 9\nRequires-Dist: llama-core>=99\n")
        found = look(site)["a"]
        assert (found.version, found.needs_core) == ("0.1.0", None)


class TestBroken:
    def test_an_entry_point_to_nowhere(self, site: Site) -> None:
        site.add("ghost", None, entry_point="llama_plugin_ghost")
        assert error_of(look(site)["ghost"]) == (
            "the entry point of llama-plugin-ghost leads to 'llama_plugin_ghost', which is not "
            "installed. Reinstall it: pip install --force-reinstall llama-plugin-ghost"
        )

    def test_a_package_without_its_manifest(self, site: Site) -> None:
        site.add("bare", None)
        assert error_of(look(site)["bare"]) == (
            "llama-plugin-bare has no plugin.toml in its package 'llama_plugin_bare'. Its author "
            "must ship the manifest as package data."
        )

    def test_a_module_in_place_of_a_package(self, site: Site) -> None:
        site.add("flat", None, {"flat.py": "1 / 0"}, entry_point="flat")
        assert "has no plugin.toml in its package 'flat'" in error_of(look(site)["flat"])

    @pytest.mark.parametrize("value", ["pkg:object", "pkg [extra]", "../pkg", "/etc", "a b", "1x"])
    def test_an_entry_point_that_is_no_package(self, site: Site, value: str) -> None:
        site.add("odd", MANIFEST, entry_point=value)
        assert error_of(look(site)["odd"]) == (
            f"the entry point of llama-plugin-odd is '{value}', not the name of a package. Write "
            '`odd = "your_package"` under [project.entry-points.llama_core].'
        )

    @pytest.mark.parametrize(
        ("name", "shown"), [("Upper", "Upper"), ("\x1b[2Jx", "\\x1b[2Jx"), ("x" * 99, "xxx")]
    )
    def test_an_entry_point_that_no_plugin_can_be_called(
        self, site: Site, name: str, shown: str
    ) -> None:
        site.add(name, MANIFEST, dist="llama-plugin-odd", package="odd")
        site.add("good", MANIFEST)
        found = look(site)
        (bad,) = [one for one in found.values() if one.dist == "llama-plugin-odd"]
        assert f"has an entry point '{shown}" in error_of(bad)
        assert "small letters, digits and hyphens" in error_of(bad)
        assert bad.name.isprintable()
        assert len(error_of(bad)) < 300
        assert found["good"].error is None

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"name = ", "is not valid TOML"),
            (b'name = "\xff"', "is not UTF-8: byte 8 is 0xff"),
            (b"#" * 70_000, "is larger than 64 KiB"),
            (b"a = " + b"[" * 5000, "is nested too deeply"),
            (b"a = " + b"9" * 5000, "Exceeds the limit (4300 digits)"),
            (b"\x00", "is not valid TOML"),
        ],
    )
    def test_a_manifest_that_cannot_be_read_names_its_file(
        self, site: Site, data: bytes, message: str
    ) -> None:
        home = site.add("bad", data)
        site.add("good", MANIFEST)
        found = look(site)
        assert str(home / "plugin.toml") in error_of(found["bad"])
        assert message in error_of(found["bad"])
        assert found["good"].error is None

    @pytest.mark.parametrize(
        ("file", "data"),
        [
            ("entry_points.txt", b"[llama_core]\nnonsense\n"),
            ("entry_points.txt", b"[llama_core]\nbad = caf\xe9\n"),
            ("METADATA", b"Name: caf\xe9\n"),
        ],
    )
    def test_metadata_that_cannot_be_read_is_told_and_hides_no_other(
        self, site: Site, file: str, data: bytes
    ) -> None:
        site.add("bad", MANIFEST)
        site.add("good", MANIFEST)
        info = site.folder / "llama_plugin_bad-0.1.0.dist-info"
        (info / file).write_bytes(data)
        found = look(site)
        assert found["good"].error is None
        message = error_of(found["llama_plugin_bad-0.1.0"])
        assert message.startswith(f"the metadata in {info} cannot be read: ")
        assert message.endswith("Reinstall it.")

    def test_a_distribution_without_metadata_goes_by_its_folder(self, site: Site) -> None:
        for name in ("one", "two"):
            site.add(name, MANIFEST)
            (site.folder / f"llama_plugin_{name}-0.1.0.dist-info" / "METADATA").unlink()
        found = look(site)
        assert found["one"].dist == "llama-plugin-one"
        assert found["two"].error is None


class TestTwice:
    def test_two_versions_of_one_distribution(self, site: Site, tmp_path: Path) -> None:
        second = Site(tmp_path / "second")
        site.add("a", MANIFEST, version="0.1.0")
        second.add("a", MANIFEST, version="0.2.0")
        found = look(site, second)["a"]
        assert found.version == "0.1.0"
        assert found.notes == (
            f"also installed as 0.2.0 in {second.folder}; 0.1.0 in {site.folder} comes first and "
            "is used",
        )
        assert look(second, site)["a"].version == "0.2.0"

    def test_names_that_differ_in_spelling_are_one_distribution(
        self, site: Site, tmp_path: Path
    ) -> None:
        second = Site(tmp_path / "second")
        site.add("a", MANIFEST, dist="llama-plugin-a")
        second.add("a", MANIFEST, dist="Llama_Plugin.A")
        assert len(look(site, second)["a"].notes) == 1

    def test_one_folder_twice_on_the_path_is_no_matter(self, site: Site, tmp_path: Path) -> None:
        site.add("a", MANIFEST)
        link = tmp_path / "link"
        link.symlink_to(site.folder)
        found = discover([str(site.folder), str(site.folder), str(link)])
        assert [one.notes for one in found if one.name == "a"] == [()]

    @pytest.mark.parametrize("other", ["a-thing", "zz-thing"])
    def test_two_distributions_claim_one_name(self, site: Site, other: str) -> None:
        home = site.add("min-p", MANIFEST)
        site.add("min-p", MANIFEST, dist=other, package="other")
        found = look(site)
        assert found["min-p"].location == home
        assert found["min-p"].error is None
        assert found["min-p"].notes == (f"{other} 0.1.0 claims the same name and is left out",)
        assert error_of(found[f"min-p ({other})"]) == (
            f"{other} claims the plugin name 'min-p', which llama-plugin-min-p has. Uninstall one "
            f"of them: pip uninstall {other}"
        )

    def test_a_distribution_that_claims_builtin(self, site: Site) -> None:
        site.add("builtin", MANIFEST, dist="evil", package="evil")
        found = look(site)
        assert found["builtin"].dist == "llama-core"
        assert found["builtin"].error is None
        assert error_of(found["builtin (evil)"]) == (
            "evil claims the name 'builtin', which belongs to llama-core itself. pip uninstall evil"
        )
