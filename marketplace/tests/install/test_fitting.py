"""What of a version keeps it from this machine."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.index.catalogue import Offered
from llama_marketplace.install.fitting import unfit
from llama_marketplace.install.machine import Machine
from packaging.version import Version

NUMBER = st.integers(0, 3).map(str)
RELEASE = st.lists(NUMBER, min_size=1, max_size=4).map(".".join)
ENDING = st.sampled_from(["", "", "", "rc1", ".post1", ".dev2", "a0", "+local"])
VERSION = st.builds("{}{}".format, RELEASE, ENDING)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(VERSION)
def test_pre_releases_are_known_from_releases(version: str) -> None:
    here = Machine(os="linux", arch="x86_64", core="1.0", python="3.12")
    why = unfit(Offered(version), None, here)
    assert (why is not None) == Version(version).is_prerelease
