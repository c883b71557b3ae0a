"""The child that tries plugins: begun early, told late, and gone whatever happens."""

from __future__ import annotations

import os
import subprocess
import sys

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
    monkeypatch.setattr(smoke, "SECONDS", 0.01)
    careful_shop.market.publish(Made())
    with pytest.raises(InstallFailed, match="has not ended within"):
        careful_shop.install(NAME)
    assert (careful_shop.versions(), careful_shop.leftovers()) == ({}, [])
