"""A save that is killed anywhere leaves the old checkpoint or the new one, whole, and no third."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing forks on Windows")


@pytest.mark.parametrize("keep", [1, 2])
def test_killed_at_every_step_of_a_save(tmp_path: Path, keep: int) -> None:
    """Each death is SIGKILL in a real process; afterwards all that is there loads and the save can
    be done again. With one kept, the old checkpoint is deleted within the save too."""
    program = Path(__file__).with_name("dying.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path), str(keep)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    deaths = [line for line in lines if line.get("killed")]
    assert len(deaths) > 30
    for line in lines:
        assert line["good"], line
        assert all(line["good"].values()), line
        assert line["unchanged"], line
        assert line["swept"], line
        assert line["again"], line
    latest = [line["latest"] for line in deaths]
    assert latest == sorted(latest)
    assert set(latest) == {1, 2}
    # The first call after the manifest's rename is late in the save: most deaths keep the old one.
    assert latest.count(1) > 30

    ended = next(line for line in lines if line.get("killed") is False)
    assert list(ended["good"]) == (["2"] if keep == 1 else ["1", "2"])

    full = {line["limit"]: line for line in lines if "limit" in line}
    for limit in (0, 100, 10_000):
        assert full[limit]["latest"] == 1
        assert "cannot save the checkpoint of step 2" in full[limit]["said"]
        assert "File too large" in full[limit]["said"]
        assert "step 1 is as it was; free some space" in full[limit]["said"]
    assert full[1_000_000]["said"] == "saved"
