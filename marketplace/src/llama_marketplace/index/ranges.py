"""Versions and ranges as catalogues have them: whether a text is one, and which lies in which.

Asked of every version that a search shows, so it imports nothing that takes its time: the plain
ones that nearly all plugins write are decided here, every other by `packaging`.
"""

from __future__ import annotations

import operator
import re
from functools import lru_cache

_RELEASE = r"[0-9]{1,9}(?:\.[0-9]{1,9})*"  # neither an epoch nor a pre-, post- or local release
_PLAIN_VERSION = re.compile(_RELEASE)
_PLAIN_PART = re.compile(rf"\s*(>=|<=|==|!=|<|>)\s*({_RELEASE})\s*")
_COMPARE = {
    ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne,
    "<": operator.lt, ">": operator.gt,
}  # fmt: skip


@lru_cache(maxsize=256)
def is_version(text: str) -> bool:
    if _PLAIN_VERSION.fullmatch(text):
        return True
    from packaging.version import Version

    try:
        Version(text)
    except ValueError:  # with numbers of more digits than Python reads, too
        return False
    return True


@lru_cache(maxsize=256)
def is_range(text: str) -> bool:
    """Whether it is a range; the empty one is any version."""
    if not text or all(map(_PLAIN_PART.fullmatch, text.split(","))):
        return True
    from packaging.specifiers import SpecifierSet

    try:
        for each in SpecifierSet(text):
            each.contains("1")  # what is compared with is read only now
    except ValueError:
        return False
    return True


def is_prerelease(version: str) -> bool:
    if _PLAIN_VERSION.fullmatch(version):
        return False
    from packaging.version import Version

    return Version(version).is_prerelease


@lru_cache(maxsize=256)
def contains(versions: str, version: str) -> bool:
    """Whether a range has a version in it, as `packaging` says, pre-releases among them."""
    parts = [_PLAIN_PART.fullmatch(each) for each in versions.split(",")] if versions else []
    if None in parts or not _PLAIN_VERSION.fullmatch(version):
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(versions).contains(version, prereleases=True)
    found = _numbers(version)
    return all(_COMPARE[each[1]](found, _numbers(each[2])) for each in parts if each)


def _numbers(release: str) -> list[int]:
    """1.0 and 1.0.0 are one version."""
    numbers = [*map(int, release.split("."))]
    while numbers and not numbers[-1]:
        numbers.pop()
    return numbers
