"""The short way to decide a version or a range says what `packaging` says, whatever it is."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from llama_marketplace.index.ranges import contains, is_prerelease, is_range, is_version
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


WRONG = st.sampled_from(
    ["", "x", "!", " 1", "1.", "01", "1_0", "1.x-final!", ">", ">=1", "9" * 5000]
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.builds("{}{}".format, VERSION | WRONG, WRONG))
def test_what_is_a_version_and_what_is_a_pre_release_packaging_says(text: str) -> None:
    try:
        version = Version(text)
    except ValueError:
        assert not is_version(text)
    else:
        assert is_version(text)
        assert is_prerelease(text) is version.is_prerelease


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.builds("{}{}".format, RANGE | WRONG, WRONG), VERSION)
@example(">=2,<" + "9" * 5000, "1")
def test_what_is_a_range_can_be_compared_with_any_version(text: str, version: str) -> None:
    if is_range(text):
        contains(text, version)  # without an error
    else:
        with pytest.raises(ValueError, match="(?i)invalid|exceeds"):
            [each.contains("1") for each in SpecifierSet(text)]
