"""The short way to decide a range says what `packaging` says, whatever the range."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_marketplace.index.catalogue import Offered
from llama_marketplace.install.fitting import contains, unfit
from llama_marketplace.install.machine import Machine
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

NUMBER = st.integers(0, 3).map(str)
RELEASE = st.lists(NUMBER, min_size=1, max_size=4).map(".".join)
ENDING = st.sampled_from(["", "", "", "rc1", ".post1", ".dev2", "a0", "+local"])
VERSION = st.builds("{}{}".format, RELEASE, ENDING)
SPACE = st.sampled_from(["", "", " "])
OPERATOR = st.sampled_from([">=", "<=", "<", ">", "==", "!=", "~=", "==="])
PART = st.builds("{}{}{}{}{}".format, SPACE, OPERATOR, SPACE, VERSION, st.sampled_from(["", ".*"]))
RANGE = st.lists(PART, max_size=3).map(",".join)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(RANGE, VERSION)
@example(">=0.1", "0.1.0")
@example(">1.0", "1.0.0")
@example("<1", "1.0.dev2")
@example(">=0.1,", "0.1")
@example(" ", "1")
def test_every_range_is_decided_as_packaging_decides_it(versions: str, version: str) -> None:
    try:
        expected = SpecifierSet(versions).contains(version, prereleases=True)
    except InvalidSpecifier:
        return
    assert contains(versions, version) is expected


@settings(max_examples=100, deadline=None, derandomize=True)
@given(VERSION)
def test_pre_releases_are_known_from_releases(version: str) -> None:
    here = Machine(os="linux", arch="x86_64", core="1.0", python="3.12")
    why = unfit(Offered(version), None, here)
    assert (why is not None) == Version(version).is_prerelease
