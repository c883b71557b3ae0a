"""Pulling, listing and removing models, against a hub on this machine."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Llama

pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")

NAME = "hf:org/tiny"


def on_a_terminal(llama: Llama, *args: str, typed: str = "") -> tuple[int, str]:
    """The exit code, and all that a terminal would have shown."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "llama_core", *args]
    child = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env={**llama.env, "TERM": "xterm"}
    )
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = b""
    try:
        while select.select([ours], [], [], 60)[0] and (piece := os.read(ours, 4096)):
            shown += piece
    except OSError:  # how Linux says that the other end is closed
        pass
    os.close(ours)
    return child.wait(timeout=60), shown.decode()


def test_a_model_is_pulled_listed_run_and_removed(llama: Llama, hub: Any, tiny: Path) -> None:
    done = llama("pull", NAME, "--json")
    assert (done.code, done.err) == (0, "")
    path = Path(done.json["path"])
    assert (path / "model.safetensors").read_bytes() == (tiny / "model.safetensors").read_bytes()
    assert done.json["bytes"] == sum(file.stat().st_size for file in tiny.iterdir())
    [row] = llama("--no-plugins", "list", "--json").json["models"]
    assert (row["name"], row["source"], row["path"]) == (NAME, "hub", str(path))
    assert NAME in llama("list").out
    assert llama("show", NAME, "--json").json["name"] == "org/tiny"
    answer = llama("--no-plugins", "run", NAME, "Hello", "--max-tokens", "3", "--json").json
    assert (answer["model"], len(answer["tokens"])) == ("org/tiny", 3)
    gone = llama("rm", NAME, "--yes", "--json")
    assert gone.json["freed_bytes"] >= done.json["bytes"]
    assert not path.exists()
    assert llama("--no-plugins", "list", "--json").json["models"] == []
    assert "llama pull" in llama("--no-plugins", "list").err


def test_a_second_pull_downloads_nothing(llama: Llama, hub: Any) -> None:
    assert llama("pull", NAME).code == 0
    hub.asked.clear()
    done = llama("pull", NAME)
    assert (done.code, done.err) == (0, "")
    assert not [path for path, _, _ in hub.asked if "/resolve/" in path]


def test_what_was_not_pulled_is_said_with_the_command_and_what_is_near(
    llama: Llama, hub: Any
) -> None:
    for command in (("run", NAME, "x"), ("show", NAME)):
        done = llama(*command)
        assert done.code == 1
        assert f"llama pull {NAME}" in done.err
    assert llama("pull", NAME).code == 0
    assert f"Did you mean '{NAME}'?" in llama("show", "hf:org/tinny").err
    assert f"is called {NAME}" in llama("show", "org/tiny").err
    assert f"Did you mean '{NAME}'?" in llama("--no-plugins", "show", "tiny").err


def test_a_private_model_asks_for_a_token_and_never_shows_it(llama: Llama, hub: Any) -> None:
    hub.token = "hf_secret"
    done = llama("pull", NAME)
    assert done.code == 1
    assert "HF_TOKEN" in done.err
    assert len(done.err.splitlines()) == 1
    done = llama("pull", NAME, env={"HF_TOKEN": "hf_secret"})
    assert done.code == 0
    assert "hf_secret" not in done.out + done.err


def test_offline_what_was_pulled_is_found_and_nobody_is_asked(llama: Llama, hub: Any) -> None:
    offline = {"HF_HUB_OFFLINE": "1"}
    refused = llama("pull", NAME, env=offline)
    assert refused.code == 1
    assert "HF_HUB_OFFLINE" in refused.err
    assert hub.asked == []
    llama("pull", NAME)
    before = len(hub.asked)
    assert llama("pull", NAME, "--json", env=offline).json["offline"] is True
    assert len(hub.asked) == before


def test_errors_of_pulling_are_one_line(llama: Llama, hub: Any) -> None:
    for name, code in (("hf:org/none", 1), ("hf:../x", 2), ("", 2)):
        done = llama("pull", name)
        assert done.code == code
        assert len(done.err.splitlines()) == 1, done.err


def test_a_terminal_shows_a_bar_for_each_file(llama: Llama, hub: Any) -> None:
    code, shown = on_a_terminal(llama, "pull", NAME)
    assert code == 0
    assert "model.safetensors" in shown
    assert "━" in shown


def test_ctrl_c_ends_a_pull_in_one_line_and_the_next_goes_on(llama: Llama, hub: Any) -> None:
    hub.cuts = [50_000]  # the connection breaks, and then the hub asks to wait
    blobs = llama.root / "hf" / "hub" / "models--org--tiny" / "blobs"
    command = [sys.executable, "-m", "llama_core", "pull", NAME]
    child = subprocess.Popen(command, env=llama.env, stderr=subprocess.PIPE, text=True)

    def wait_until(happens: Callable[[], bool]) -> None:
        patience = time.monotonic() + 60
        while not happens():
            assert time.monotonic() < patience
            time.sleep(0.01)

    wait_until(lambda: any(p.stat().st_size >= 50_000 for p in blobs.glob("*.incomplete")))
    hub.refuse = {"model.safetensors": (503, {"Retry-After": "50"})}
    wait_until(lambda: any(asked == "bytes=50000-" for _, asked, _ in hub.asked))
    time.sleep(0.2)  # now it is waiting for those 50 seconds to pass
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said.splitlines() == [
        f"llama: interrupted; to go on where it stopped: llama pull {NAME}"
    ]
    hub.refuse = {}
    assert llama("pull", NAME).code == 0
    assert [asked for _, asked, _ in hub.asked].count("bytes=50000-") == 2


def test_removing_asks_on_a_terminal_and_refuses_elsewhere(llama: Llama, hub: Any) -> None:
    path = Path(llama("pull", NAME, "--json").json["path"])
    piped = llama("rm", NAME)
    assert piped.code == 2
    assert "--yes" in piped.err
    code, shown = on_a_terminal(llama, "rm", NAME, typed="n\n")
    assert code == 1
    assert f"Remove {NAME} (" in shown
    assert path.exists()
    code, shown = on_a_terminal(llama, "rm", NAME, typed="y\n")
    assert code == 0
    assert not path.exists()


def test_only_the_whole_of_what_was_pulled_is_removed(llama: Llama, hub: Any, tiny: Path) -> None:
    llama("pull", NAME)
    part = llama("rm", f"{NAME}:model.safetensors", "--yes")
    assert part.code == 1
    assert f"llama rm {NAME}" in part.err
    assert "Delete it as you delete other files" in llama("rm", str(tiny), "--yes").err
    assert (tiny / "config.json").exists()
    assert "Did you mean" in llama("rm", "hf:org/tinny", "--yes").err
    assert len(llama("--no-plugins", "list", "--json").json["models"]) == 1


SOURCE = """
from pathlib import Path
from llama_core import hookimpl

class Source:
    def path(self):
        return Path({path!r})

@hookimpl
def llama_open_model(name):
    return Source()
"""


def test_model_plugins_are_listed_with_their_size_and_belong_to_pip(
    llama: Llama, hub: Any, tiny: Path
) -> None:
    provides = [{"kind": "model", "name": "pocket", "api": 1}]
    code = {"llama_plugin_pocket/__init__.py": SOURCE.format(path=str(tiny))}
    llama.site.add("pocket", {"provides": provides}, code)
    broken = [{"kind": "model", "name": "torn", "api": 1}]
    llama.site.add("torn", {"provides": broken}, {"llama_plugin_torn/__init__.py": "import no\n"})
    rows = {row["name"]: row for row in llama("list", "--json").json["models"]}
    assert rows["pocket"]["bytes"] == sum(file.stat().st_size for file in tiny.iterdir())
    assert rows["pocket"]["source"] == "pocket"
    assert rows["torn"]["bytes"] is None
    assert "it needs the module 'no'" in rows["torn"]["reason"]
    assert llama("show", "pocket", "--json").json["architecture"] == "llama"
    words = {"_LLAMA_COMPLETE": "bash_complete", "COMP_WORDS": "llama run poc", "COMP_CWORD": "2"}
    assert "plain,pocket" in llama(env=words).out
    assert "pip uninstall llama-plugin-pocket" in llama("rm", "pocket", "--yes").err
    assert "Did you mean 'pocket'?" in llama("run", "pockte", "x").err


@pytest.mark.parametrize("name", ["./tiny", "hf:a/b/c", "a/b/c"])
def test_what_names_no_model_of_the_hub_is_wrong_usage(hub: Any, llama: Llama, name: str) -> None:
    done = llama("pull", name)
    assert done.code == 2
    assert "does not name a model of the hub" in done.err
