"""A run's folder: made once, owned by one, its logs whole whatever ended it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llama_plugin_train", reason="llama-plugin-train is not installed")

from llama_plugin_train.runs import Change, Changes, Journal, RunDirectory, RunError
from llama_plugin_train.runs.directory import effective

from llama_core.announce import Announcements
from llama_core.errors import LlamaError


def created(path: Path) -> RunDirectory:
    given: dict[str, Any] = {"config": {"steps": 3}, "seeds": {"data": 1}, "sources": {"a": "0"}}
    return RunDirectory.create(path, files={"config.toml": "steps = 3\n"}, **given)


def test_a_run_is_made_and_opened_again(tmp_path: Path) -> None:
    created(tmp_path / "run").close()
    with RunDirectory(tmp_path / "run") as run:
        assert run.facts["config"] == {"steps": 3}
        assert run.facts["seeds"] == {"data": 1}
        assert run.facts["versions"]["python"].startswith("3.")
        assert run.changed_versions() == {}
        run.facts["versions"]["numpy"] = "0"
        assert run.changed_versions()["numpy"][0] == "0"
    assert (tmp_path / "run" / "config.toml").read_text() == "steps = 3\n"


def test_a_folder_with_something_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(RunError, match="not empty.*Resume it"):
        created(tmp_path)
    with pytest.raises(RunError, match="holds no run"):
        RunDirectory(tmp_path)


def test_a_changed_description_is_noticed(tmp_path: Path) -> None:
    created(tmp_path / "run").close()
    path = tmp_path / "run" / "run.json"
    path.write_text(path.read_text().replace('"steps": 3', '"steps": 4'))
    with pytest.raises(LlamaError, match=r"run\.json is damaged"):
        RunDirectory(tmp_path / "run")


def test_a_run_has_one_owner(tmp_path: Path) -> None:
    """A second process is refused; when the first is gone, however it ended, it is let in."""
    run = created(tmp_path / "run")
    code = (
        "import os, sys; from pathlib import Path; from llama_plugin_train.runs import *\n"
        "try: RunDirectory(Path(sys.argv[1]))\n"
        "except RunError as error: print(error)\n"
        "os._exit(0)"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "run")]
    assert "in use" in subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    run.close()
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout == ""
    RunDirectory(tmp_path / "run").close()


@pytest.mark.parametrize("torn", [b'{"step": 3', b'{"step": 3}', b"\xff\xfe", b"x" * 200_000])
def test_a_torn_last_line_is_cut_and_said(tmp_path: Path, torn: bytes) -> None:
    path, said = tmp_path / "log.jsonl", Announcements()
    first = Journal(path)
    first.append({"step": 1})
    first.append({"step": 2})
    first.close()
    with path.open("ab") as file:
        file.write(torn)
    journal = Journal(path, announcements=said)
    assert list(journal.read()) == [{"step": 1}, {"step": 2}]
    journal.append({"step": 4})
    journal.close()
    assert path.read_bytes() == b'{"step":1}\n{"step":2}\n{"step":4}\n'
    assert any("ignored" in text for text in said.counts)
    assert any(f"{len(torn)} bytes is cut off" in text for text in said.counts)


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"step":1}\n{"st\n{"step":3}\n')
    with pytest.raises(RunError, match="line 2 of .*log.jsonl is damaged"):
        list(Journal(path).read())


def test_what_is_not_json_is_refused_before_it_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "log.jsonl")
    for bad in (float("nan"), object()):
        with pytest.raises(RunError, match="not JSON"):
            journal.append({"loss": bad})
    assert not journal.path.exists()


def test_changes_are_replayed_before_the_steps_they_were_made(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "changes.jsonl")
    changes = Changes(journal)
    told = [
        Change(5, "set", {"learning_rate": 0.1}),
        Change(5, "set", {"clip": 2.0}),
        Change(9, "pause"),
    ]
    for change in told:
        changes.record(change)
    journal.close()
    again = Changes(Journal(tmp_path / "changes.jsonl"))
    assert [change for step in range(12) for change in again.before(step)] == told
    assert again.up_to(9) == told[:2]
    assert again.last_step == 9
    with pytest.raises(RunError, match="step 8 cannot follow one at step 9"):
        again.record(Change(8, "save"))


def test_a_log_of_something_else_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "changes.jsonl")
    journal.append({"step": "5", "command": "set", "arguments": {}})
    journal.close()
    with pytest.raises(RunError, match="no change"):
        Changes(journal)


def test_metrics_gone_back_over_count_once(tmp_path: Path) -> None:
    with created(tmp_path / "run") as run:
        for step in (1, 2, 3):
            run.metrics.append({"step": step, "loss": step})
        run.resumed(1)
        run.metrics.append({"step": 2, "loss": 20})
        found = [(one["step"], one["loss"]) for one in effective(run.metrics.read())]
    assert found == [(1, 1), (2, 20)]
