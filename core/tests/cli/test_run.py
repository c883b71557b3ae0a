"""`llama run`: prompts from a pipe, lengths, rewrites, program providers, Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import Done, Llama, lent

# A provider as a plugin's author would write it: each token's successor is the next id.
PROVIDER = """
import time
import numpy as np
from llama_core import hookimpl
from llama_core.contracts.program import KVGroup, KVLayout
from llama_core.contracts.step import Output, Want

class Counting:
    invariance = "bitwise"
    vocab_size = 258

    def __init__(self, plan):
        self.kv = KVLayout((KVGroup((0,), None, 4),), plan.block_size, 100)

    def submit(self, batch):
        time.sleep({seconds})
        rows = np.flatnonzero(batch.want_T == Want.LOGITS)
        logits = np.zeros((len(rows), 258), np.float32)
        logits[np.arange(len(rows)), (batch.tokens_T[rows] + 1) % 256] = 1
        return Done(Output(logits))

    def copy_blocks(self, pairs):
        pass

    def close(self):
        pass

class Done:
    def __init__(self, output):
        self.output = output

    def result(self):
        return self.output

class Provider:
    def accepts(self, path, config):
        return None if config["model_type"] != "refused" else "it is refused by name"

    def open(self, path, plan):
        return Counting(plan)

@hookimpl
def llama_create_program(name):
    return Provider()
"""


@pytest.fixture
def counting(llama: Llama) -> Llama:
    return provided(llama, 0)


def provided(llama: Llama, seconds: float) -> Llama:
    provides = [{"kind": "program", "name": "counting", "api": 1}]
    code = {"llama_plugin_counting/__init__.py": PROVIDER.replace("{seconds}", str(seconds))}
    llama.site.add("counting", {"provides": provides}, code)
    llama.env["LLAMA_CORE_PLUGINS"] = "counting"
    return llama


def typed(tiny: Path, to: Path, model_type: str) -> str:
    """A copy of the model that says that it is of another type."""
    shutil.copytree(tiny, to)
    config = json.loads((to / "config.json").read_text())
    (to / "config.json").write_text(json.dumps({**config, "model_type": model_type}))
    return str(to)


def run(llama: Llama, *args: Any, **more: Any) -> Done:
    return llama("--no-plugins", "run", *map(str, args), **more)


def test_a_line_end_behind_a_piped_prompt_is_not_part_of_it(llama: Llama, tiny: Path) -> None:
    args = (tiny, "--max-tokens", 1, "--json")
    lengths = [
        run(llama, *args, stdin=text).json["usage"]["prompt_tokens"]
        for text in (b"Hello", b"Hello\n", b"Hello\r\n", b"Hello\n\n")
    ]
    assert lengths == [5, 5, 5, 6]


def test_a_piped_prompt_that_is_no_text_is_one_line(llama: Llama, tiny: Path) -> None:
    command = [sys.executable, "-m", "llama_core", "--no-plugins", "run", str(tiny)]
    done = subprocess.run(
        command, input=b"\xff\xfe", env=llama.env, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert b"no UTF-8" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (("\udcff\udcfe",), "'[PROMPT]': it is no UTF-8, from byte 0 on"),
        (("x", "--stop", "\udcff"), "'--stop': it is no UTF-8"),
        (("x", "--max-tokens", "1" + "0" * 23), "'--max-tokens'"),
        (("x", "--seed", "1" + "0" * 26), "'--seed'"),
    ],
)
def test_what_no_request_can_have_is_wrong_usage(
    llama: Llama, tiny: Path, wrong: tuple[str, ...], says: str
) -> None:
    done = run(llama, tiny, *wrong)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err.splitlines()) == 1


def test_an_answer_is_as_long_as_the_context_has_room(llama: Llama, tiny: Path) -> None:
    facts = run(llama, tiny, "Hello", "--context", 8, "--json").json
    assert facts["context_length"] == 8
    assert (facts["finish"], len(facts["tokens"])) == ("length", 3)
    whole = run(llama, tiny, "Hello", "--max-tokens", 3, "--json").json
    assert whole["context_length"] == 512
    assert whole["tokens"] == facts["tokens"]


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--context", "513"], "the model was made for 512"),
        (["--context", "8", "--max-tokens", "4"], "max_tokens must be from 1 to 3"),
        (["--context", "4"], "prompt and answer may have 4 tokens together"),
        (["--context", "1"], "--context"),
        (["--rewrite", "quantise"], "rewrite 'quantise'"),
        (["--rewrite", "reencode"], "encoding"),
        (["--backend", "reference", "--program", "x"], "exclude each other"),
        (["--rewrite", "fuse", "--program", "x"], "--program runs without"),
    ],
)
def test_what_cannot_be_is_one_line(llama: Llama, tiny: Path, args: list[str], words: str) -> None:
    done = run(llama, tiny, "Hello", *args)
    assert done.code in (1, 2)
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert done.out == ""


def test_a_rewrite_changes_what_is_computed(llama: Llama, tiny: Path) -> None:
    plain = run(llama, tiny, "Hello", "--max-tokens", 30, "--json").json["tokens"]
    coarse = ("--rewrite", "reencode:encoding=q4:g32")
    assert run(llama, tiny, "Hello", "--max-tokens", 30, *coarse, "--json").json["tokens"] != plain


def test_a_provider_runs_what_it_is_asked_to(counting: Llama, tiny: Path) -> None:
    args = ("run", str(tiny), "abc", "--program", "counting", "--max-tokens", "3")
    done = counting(*args, "--json")
    assert (done.code, done.err) == (0, "")
    assert done.json["text"] == "def"
    assert done.json["backend"] == {
        "kind": "program",
        "name": "counting",
        "reason": "asked for by name",
    }
    assert counting("--strict", *args).out == "def\n"


def test_an_unknown_architecture_goes_to_a_provider_aloud(
    counting: Llama, tiny: Path, tmp_path: Path
) -> None:
    model = typed(tiny, tmp_path / "lama", "lama")
    done = counting("run", model, "abc", "--max-tokens", "3")
    assert (done.code, done.out) == (0, "def\n")
    for words in ("no architecture 'lama'", "'llama'", "'counting' runs it", "--program counting"):
        assert words in done.err
    strict = counting("--strict", "run", model, "abc")
    assert strict.code == 1
    assert "strict mode forbids this fallback" in strict.err
    meant = counting("--strict", "run", model, "abc", "--program", "counting")
    assert meant.code == 0


def test_what_needs_a_graph_is_no_reason_for_a_provider(
    counting: Llama, tiny: Path, tmp_path: Path
) -> None:
    model = typed(tiny, tmp_path / "lama", "lama")
    for asked, why in (
        (("--rewrite", "fuse"), "rewrites change a graph"),
        (("--backend", "reference"), "backend 'reference' was asked for"),
    ):
        done = counting("run", model, "abc", *asked)
        assert done.code == 1
        assert "no architecture 'lama'" in done.err
        assert why in done.err


def test_a_provider_that_refuses_is_quoted(counting: Llama, tiny: Path, tmp_path: Path) -> None:
    model = typed(tiny, tmp_path / "refused", "refused")
    for more in ((), ("--program", "counting")):
        done = counting("run", model, "abc", *more)
        assert done.code == 1
        assert "it is refused by name" in done.err
        assert len(done.err.splitlines()) == 1


def test_ctrl_c_ends_an_answer_without_a_traceback(llama: Llama, tiny: Path) -> None:
    provided(llama, 0.05)
    command = [sys.executable, "-m", "llama_core", "run", str(tiny), "a", "--program", "counting"]
    child = subprocess.Popen(
        [*command, "--max-tokens", "400"],
        env=llama.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    first = child.stdout.read(2)
    child.send_signal(signal.SIGINT)
    rest, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert (first + rest).startswith("bc")
    assert len(rest) < 300
    assert said.strip() == ""


@pytest.mark.parametrize(
    "wrong",
    [
        ("--max-tokens", "0"),
        ("--seed", "-1"),
        ("--temperature", "-1"),
        ("--temperature", "1", "--top-p", "1.5"),
        ("--top-k", "-3"),
        ("--stop", ""),
        ("--rewrite", "act:foo=1"),
        ("--rewrite", ""),
    ],
)
def test_a_wrong_value_is_wrong_usage(llama: Llama, tiny: Path, wrong: tuple[str, ...]) -> None:
    done = llama("run", str(tiny), "x", *wrong, "--json")
    assert done.code == 2
    assert len(done.err.splitlines()) == 1
    assert done.json["error"]["remedy"]
    if wrong[-2] != "--rewrite":
        assert wrong[-2] in done.err  # the flag as it was typed, not what lies behind it


def test_a_closed_stream_is_an_empty_one(llama: Llama, tiny: Path) -> None:
    """As a shell's `<&-` and `2>&-` leave it, which is None."""
    ask = ["run", str(tiny), "--backend", "reference", "--json"]
    code = (
        f"import sys; from llama_core.cli import main; sys.stdin = sys.stderr = None; main({ask})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=llama.env, timeout=60
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert json.loads(done.stdout)["error"]["message"].startswith("the prompt has no tokens")


@pytest.mark.parametrize("also", ["", "--json"])
def test_an_answer_that_cannot_be_written_is_no_success(
    llama: Llama, tiny: Path, also: str
) -> None:
    """As a shell's `>&-` leaves it, which is None."""
    ask = ["run", str(tiny), "x", "--max-tokens", "2", *filter(None, [also])]
    code = f"import sys; from llama_core.cli import main; sys.stdout = None; main({ask})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=llama.env, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.startswith("llama: error: cannot write the output: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
@pytest.mark.parametrize("also", [(), ("--json",)])
def test_a_full_disk_is_one_line(llama: Llama, tiny: Path, also: tuple[str, ...]) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "llama_core", "run", str(tiny), "x", "--max-tokens", "2", *also],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=llama.env,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr == "llama: error: cannot write the output: No space left on device\n"


def test_a_terminal_is_shown_escapes_and_does_not_obey_them(llama: Llama, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    model = lent("engine/scripted.py").scripted_model(tmp_path / "rude")
    ask = ["run", str(model), "<|rude|>", "--backend", "reference"]
    master, slave = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "llama_core", *ask], stdout=slave, env=llama.env, timeout=120
    )
    os.close(slave)
    shown = os.read(master, 4096).decode()
    os.close(master)
    assert done.returncode == 0
    assert shown == "␛[31mred\r\n"


def test_nothing_is_imported_that_one_answer_does_not_need(llama: Llama, tiny: Path) -> None:
    """Each of these takes 10 to 60 ms, of the third of a second before the first token."""
    spared = ("asyncio", "jsonschema", "jinja2", "llama_core.model.hub", "llama_core.web", "torch")
    code = (
        "import sys\nfrom llama_core.cli import main\n"
        f"try:\n    main()\nfinally:\n    print([one for one in {spared} if one in sys.modules])"
    )
    asked = ["run", str(tiny), "once", "--max-tokens", "1", "--backend", "reference"]
    done = subprocess.run(
        [sys.executable, "-c", code, *asked],
        capture_output=True,
        text=True,
        env=llama.env,
        cwd=llama.project,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")
