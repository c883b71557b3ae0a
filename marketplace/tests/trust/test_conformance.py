"""The cases by which TUF's maintainers tell whether a client conforms, run against this reader.

They are a repository of their own, on no package index; `make test-all` fetches it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parents[3] / "build" / "tuf-conformance"
CLIENT = Path(__file__).with_name("conforming.py")
ALL_OR_NOTHING = """
Of a refresh that failed the suite asks for the new timestamp or snapshot to be kept. Here the root
alone is kept: with half of the rest, what is cached could not be read until the server is well.
"""
# case -> why it is not to hold here; one that holds all the same fails the test
OTHERWISE = {
    **dict.fromkeys(
        [
            "test_unsigned_metadata[snapshot]",
            "test_unsigned_metadata[targets]",
            "test_url_and_metadata_version_mismatch[snapshot]",
            "test_url_and_metadata_version_mismatch[targets]",
            "test_targets_hash_mismatch",
            "test_snapshot_hash_mismatch",
            "test_snapshot_404",
            "test_targets_404",
            "test_snapshot_expired",
            "test_targets_expired",
        ],
        ALL_OR_NOTHING,
    ),
    "test_download_with_hash_algorithms[hashes1]": "a target of an index always has its SHA-256",
}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script is run here")
@pytest.mark.skipif(not CASES.is_dir(), reason="the cases of TUF's suite were not fetched")
def test_every_case_that_is_about_a_reader_of_indexes(tmp_path: Path) -> None:
    client = tmp_path / "client"
    client.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CLIENT}" "$@"\n')
    client.chmod(0o755)
    client.with_suffix(".xfails").write_text("\n".join(OTHERWISE))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", CASES / "tuf_conformance", "--entrypoint", client,
         "-c", CASES / "pyproject.toml", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider"],
        cwd=tmp_path, text=True, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    told = re.findall(r"(\d+) (passed|xfailed)", done.stdout.splitlines()[-1])
    counts = {what: int(number) for number, what in told}
    assert counts["passed"] > 90
