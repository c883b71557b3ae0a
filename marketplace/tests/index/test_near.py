"""Every name that is one slip away is found, wherever the slip is, and no other."""

from __future__ import annotations

from io import BytesIO

from hypothesis import given, settings
from hypothesis import strategies as st
from llama_marketplace.index.catalogue import Summary, read_line, write_line
from llama_marketplace.index.near import near

NAME = st.text("ab-", min_size=1, max_size=6)


def distance(one: str, other: str) -> int:
    """Of Damerau and Levenshtein, for neighbours, by the book."""
    rows = [[max(i, j) for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            changed = one[i - 1] != other[j - 1]
            rows[i][j] = min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + changed)
            if i > 1 and j > 1 and (one[i - 1], one[i - 2]) == (other[j - 2], other[j - 1]):
                rows[i][j] = min(rows[i][j], rows[i - 2][j - 2] + 1)
    return rows[-1][-1]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(NAME, st.sets(NAME, max_size=12))
def test_names_one_slip_away_are_found(name: str, names: set[str]) -> None:
    data = b"".join(write_line(Summary(each, each, "ann", '"name":"' + name)) for each in names)
    found = {read_line(line).name for line in near(BytesIO(data), name)}
    assert found == {each for each in names if distance(name, each) == 1}
