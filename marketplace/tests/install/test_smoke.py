"""The child that tries plugins: begun early, told late, and gone whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from llama_marketplace.install import smoke
from llama_marketplace.install.faults import InstallFailed
from llama_marketplace.install.smoke import Trial

from ..wheels.making import SOURCE, Made
from .conftest import Shop

NAME = "llama-plugin-rhyme"


def test_a_child_that_is_told_nothing_ends_by_itself() -> None:
    """Whoever began it was killed: all that is left of it is the end of a pipe."""
    command = [sys.executable, "-P", "-m", smoke.__name__]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_child_that_is_not_needed_is_ended() -> None:
    with Trial() as trial:
        child, folder = trial._child, trial._folder.name
        assert child.poll() is None
    assert child.returncode is not None
    assert not os.path.exists(folder)


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell script is run here")
def test_what_a_child_has_begun_does_not_hold_up_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nsleep 60 &\nexec sleep 60\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    began = time.monotonic()
    with Trial() as trial:
        pass
    assert trial._child.returncode is not None
    assert time.monotonic() - began < 30  # a watchdog


def test_a_plugin_on_trial_has_no_input_and_no_secrets(
    careful_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "canary")
    look = "import os, sys\nassert sys.stdin.read() == ''\nassert 'HF_TOKEN' not in os.environ\n"
    careful_shop.market.publish(Made(source=look + SOURCE))
    careful_shop.install(NAME)
    assert careful_shop.versions() == {NAME: "1.0"}


def test_a_trial_without_an_end_is_ended(
    careful_shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smoke, "SECONDS", 2.0)  # of ten minutes
    careful_shop.market.publish(Made(source="while True:\n    pass\n" + SOURCE))
    with pytest.raises(InstallFailed, match="has not ended within"):
        careful_shop.install(NAME)
    assert (careful_shop.versions(), careful_shop.leftovers()) == ({}, [])
