"""`llama chat` as it is used: at a terminal, from a pipe, and with one question."""

from __future__ import annotations

import codecs
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .conftest import Llama, lent

GREEDY = "temperature: 0.0 (the likeliest token is taken)"
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
PATIENCE_SECONDS = 60


scripted_model: Callable[..., Path] = lent("engine/scripted.py").scripted_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scripted_model(tmp_path_factory.mktemp("model") / "chatty")


class Terminal:
    """`llama chat` with a terminal around it."""

    def __init__(self, llama: Llama, *args: str) -> None:
        pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "llama_core", "chat", *args, "--backend", "reference"],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**llama.env, "TERM": "dumb"},
            cwd=llama.project,
            start_new_session=True,
            preexec_fn=_take_terminal,
        )
        os.close(slave)
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self.raw = ""
        self.seen = 0

    def send(self, text: str) -> None:
        os.write(self.master, text.encode())

    def interrupt(self) -> None:
        """Ctrl-C. Python notices one that comes just before it waits for a line with the next."""
        self.send("\x03")
        if not select.select([self.master], [], [], 5)[0]:
            self.send("\x03")

    def line(self, text: str) -> str:
        """Type a line, and give what comes up to the next prompt."""
        self.send(text + "\n")
        return self.expect("\n> ")

    def expect(self, text: str) -> str:
        """What comes up to this text, from where the last one was."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (at := self.text.find(text, self.seen)) < 0:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} came, but {self.text[self.seen :]!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.raw += self._decoder.decode(os.read(self.master, 4096))
                except OSError:  # the other side is closed
                    raise AssertionError(f"it ended before {text!r}: {self.text!r}") from None
        found, self.seen = self.text[self.seen : at], at + len(text)
        return found

    @property
    def text(self) -> str:
        return ESCAPES.sub("", self.raw).replace("\r", "")

    def code(self) -> int:
        """How it ended."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            if select.select([self.master], [], [], 0.1)[0]:
                try:
                    self.raw += self._decoder.decode(os.read(self.master, 4096))
                except OSError:
                    break
        return self.process.wait(PATIENCE_SECONDS)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def _take_terminal() -> None:
    """In the child: the terminal is its own, so that ctrl-C reaches it."""
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def terminal(llama: Llama, model: Path) -> Iterator[Terminal]:
    opened = Terminal(llama, str(model))
    opened.expect("\n> ")
    yield opened
    opened.close()


# ------------------------------------------------------------------------------- at a terminal


def test_a_conversation_of_several_turns(terminal: Terminal) -> None:
    first = terminal.line("hi")
    assert "Hello there.\n" in first
    assert re.search(
        r"\[4 tokens, [\d.]+ tokens/s with the prompt, .*prompt \d+, 0 of it cached\]", first
    )
    assert "\x1b[2m[4 tokens" in terminal.raw, "what is beside the answer is dim"
    assert "We spoke before." in terminal.line("and now?"), "it knows of the first turn"
    assert "taken back" in terminal.line("/undo")
    assert "taken back" in terminal.line("/undo")
    assert "nothing has been said" in terminal.line("/undo")
    assert "Hello there." in terminal.line("hi again")
    assert "Hello there." in terminal.line("/regen")
    assert "forgotten" in terminal.line("/clear")
    assert "nothing has been said" in terminal.line("/regen")
    assert "be terse" in terminal.line("/system be terse")
    assert "As told, briefly." in terminal.line("hi")
    terminal.send("/exit\n")
    assert terminal.code() == 0


def test_the_second_turn_finds_the_first_in_the_cache(terminal: Terminal) -> None:
    terminal.line("x" * 100)
    second = terminal.line("y")
    prompt, cached = map(int, re.findall(r"prompt (\d+), (\d+) of it cached", second)[0])
    assert cached >= 96, "all full blocks of the first turn"
    assert prompt - cached < 32


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.send("count\n")
    terminal.expect("one two three one two three")
    terminal.interrupt()
    assert "stopped]" in terminal.expect("\n> ")
    assert "We spoke before." in terminal.line("hi"), "what was said so far is remembered"
    terminal.interrupt()
    terminal.expect("ctrl-C again")
    terminal.expect("> ")
    assert "We spoke before." in terminal.line("hi"), "one alone does not leave"
    terminal.interrupt()
    terminal.expect("ctrl-C again")
    terminal.expect("> ")
    terminal.interrupt()
    assert terminal.code() == 0


def test_several_lines(terminal: Terminal, llama: Llama) -> None:
    terminal.send('"""first\n')
    terminal.expect("… ")
    terminal.send("second\n")
    terminal.expect("… ")
    terminal.line('third"""')
    terminal.send("fourth\\\n")
    terminal.expect("… ")
    terminal.line("fifth")
    terminal.send('"""/not a\n')
    terminal.expect("… ")
    terminal.line('command"""')
    terminal.line(" /etc too")
    assert "a space before says it" in terminal.line("/etc/hosts what is it?")
    terminal.send('"""\n')
    terminal.expect("… ")
    terminal.interrupt()
    terminal.expect("ctrl-C again")
    terminal.expect("> ")
    terminal.line("/save held.json")
    held = json.loads((llama.project / "held.json").read_text())
    said = [m["content"] for m in held["messages"] if m["role"] == "user"]
    assert said == ["first\nsecond\nthird", "fourth\nfifth", "/not a\ncommand", "/etc too"]


def test_saving_and_going_on(terminal: Terminal, llama: Llama, model: Path) -> None:
    terminal.line("/system be kind")
    terminal.line("think")
    assert "holds 1 turn" in terminal.line("/save 'my chat.json'")
    held = json.loads((llama.project / "my chat.json").read_text())
    assert held["system"] == "be kind"
    assert held["messages"][1] == {
        "role": "assistant",
        "content": "It is 42.",
        "reasoning_content": "Hmm, let me see.",
    }
    terminal.line("/clear")
    assert "1 turn" in terminal.line("/load 'my chat.json'")
    assert "no conversation" in terminal.line(f"/load {model / 'model.safetensors'}")
    assert "cannot read" in terminal.line("/load nowhere")
    assert "one file is wanted" in terminal.line("/save")
    assert "1 turn," in terminal.line("/stats")


def test_reasoning_is_dim_and_escapes_are_not_obeyed(terminal: Terminal) -> None:
    assert "Hmm, let me see.\nIt is 42.\n" in terminal.line("think")
    assert "\x1b[2mHmm, let\x1b[0m" in terminal.raw
    assert "␛[31mred" in terminal.line("rude")
    assert "\x1b[31m" not in terminal.raw


def test_settings(terminal: Terminal) -> None:
    assert terminal.line("/set").splitlines()[-1] == GREEDY
    assert terminal.line("/set temperature 0.7").splitlines()[1:] == ["temperature: 0.7"]
    assert terminal.line("/set top-k 5").splitlines()[1:] == ["temperature: 0.7", "top_k: 5"]
    assert terminal.line("/set top_k").splitlines()[1:] == ["temperature: 0.7"]
    said = terminal.line("/set seed 12345678").splitlines()[1:]
    assert said == ["temperature: 0.7", "seed: 12345678"]
    assert "stop: 'x y'" in terminal.line("/set stop x y")
    terminal.line("/set stop")
    terminal.line("/set seed")
    assert "temperature" in terminal.line("/set temperature 1000")
    assert "Did you mean 'temperature'" in terminal.line("/set temprature 1")
    assert "seed: 'x' is not a valid integer" in terminal.line("/set seed x")
    for wrong in ("0", "-4"):
        assert f"max_tokens: {wrong} is not in the range" in terminal.line(
            f"/set max_tokens {wrong}"
        )
    terminal.line("/set temperature 0")
    terminal.line("/set max_tokens 2")
    assert "cut off: max_tokens was reached]" in terminal.line("hi")
    assert "did you mean '/" not in terminal.line("/cleer")
    assert "Did you mean 'clear'" in terminal.text
    assert "/regen" in terminal.line("/help")


def test_another_answer_that_is_the_same_says_why(terminal: Terminal) -> None:
    terminal.line("hi")
    same = "(the same again, since the likeliest token is taken: /set temperature 0.7)"
    assert same in terminal.line("/regen")
    terminal.line("/set temperature 0.01")
    assert "the same again" not in terminal.line("/regen"), "this time it was chance"
    terminal.line("/set seed 7")
    assert "since the seed is still 7: /set seed 8)" in terminal.line("/regen")
    assert "the same again" not in terminal.line("hi again"), "a new question is none"


def test_an_answer_that_fills_the_context_says_so(llama: Llama, model: Path) -> None:
    terminal = Terminal(llama, str(model), "--context", "64")
    try:
        terminal.expect("\n> ")
        assert "cut off: the context of 64 is full]" in terminal.line("count")
        assert "context: 64 of 64 tokens" in terminal.line("/stats")
    finally:
        terminal.close()


def test_commands_refuse_words_that_they_do_not_take(terminal: Terminal) -> None:
    terminal.line("hi")
    assert "/clear takes nothing behind it, and there is 'now'" in terminal.line("/clear now")
    assert "1 turn," in terminal.line("/stats")
    assert "system prompt: be kind" in terminal.line("/system be kind")
    assert "system prompt: none" in terminal.line('/system ""')


def test_ctrl_d_in_a_message_drops_the_message(terminal: Terminal) -> None:
    terminal.send('"""first\n')
    terminal.expect("… ")
    terminal.send("\x04")
    assert "nothing of it is said" in terminal.expect("\n> ")
    assert "0 turns," in terminal.line("/stats")


@pytest.mark.parametrize(
    ("calls", "wrong"),
    [
        ("x", "tool_calls is no list"),
        ([{"function": {"name": "f"}}], "a tool call has no id, or no function with a name"),
        ([{"id": "1", "function": {}}], "a tool call has no id, or no function with a name"),
    ],
)
def test_calls_of_tools_that_are_none_are_not_loaded(
    llama: Llama, model: Path, calls: object, wrong: str
) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": calls}]
    (llama.project / "odd.json").write_text(json.dumps(said))
    done = llama("chat", str(model), "--prompt", "hi", "--load", "odd.json")
    assert done.code == 1
    assert f"odd.json holds no conversation: in message 2, {wrong}" in done.err


def test_a_conversation_of_answers_alone_has_nothing_to_answer(
    terminal: Terminal, llama: Llama
) -> None:
    said = [{"role": "assistant", "content": "Hello.", "tool_calls": None}]
    (llama.project / "odd.json").write_text(json.dumps(said))
    assert "0 turns" in terminal.line("/load odd.json")
    assert "nothing has been said" in terminal.line("/regen")
    said = [{"id": "1", "function": {"name": "look_up", "arguments": {}}}]
    call = [{"role": "assistant", "content": "", "tool_calls": said}]
    (llama.project / "open.json").write_text(json.dumps(call))
    assert "(the model has called look_up: /result TEXT)" in terminal.line("/load open.json")
    assert "The sky is blue." in terminal.line("/result blue")


def test_a_line_that_is_no_text_is_not_the_end(terminal: Terminal) -> None:
    """Whether its odd bytes are dropped or refused is for the system's library to say."""
    os.write(terminal.master, b"gr\xfcn\n")
    terminal.expect("\n> ")
    terminal.line("/clear")
    assert "Hello there." in terminal.line("hi")


def test_ctrl_d_leaves(terminal: Terminal) -> None:
    terminal.send("\x04")
    assert terminal.code() == 0


def test_a_tool_is_called_and_answered(llama: Llama, model: Path) -> None:
    (llama.project / "tools.json").write_text('[{"name": "look_up"}]')
    terminal = Terminal(llama, str(model), "--tools", "tools.json")
    try:
        terminal.expect("\n> ")
        called = terminal.line("call")
        assert 'Wait.\n→ look_up {"of": "sky"}\n' in called
        assert "/result TEXT" in called
        assert "The sky is blue." in terminal.line("/result blue")
        assert "no tool has been called" in terminal.line("/result blue")
    finally:
        terminal.close()


def test_machines_get_one_line_an_answer(llama: Llama, model: Path) -> None:
    terminal = Terminal(llama, str(model), "--json")
    try:
        terminal.expect("> ")
        answers = [terminal.line(text).splitlines()[-1] for text in ("hi", "hi")]
        assert [json.loads(a)["text"] for a in answers] == ["Hello there.", "We spoke before."]
        refused = json.loads(terminal.line("/cleer").splitlines()[-1])
        assert "/cleer" in refused["error"]["message"]
    finally:
        terminal.close()


# ------------------------------------------------------------------------------------ elsewhere


def test_one_question(llama: Llama, model: Path) -> None:
    done = llama("chat", str(model), "--prompt", "think", "--backend", "reference")
    assert (done.code, done.out) == (0, "It is 42.\n"), "no reasoning, no colour, no note"
    done = llama("chat", str(model), "--prompt", "think", "--json", "--backend", "reference")
    assert done.json["reasoning"] == "Hmm, let me see."
    assert done.json["finish"] == "stop"
    assert done.json["usage"]["completion_tokens"] == 7


@pytest.mark.skipif(os.name == "nt", reason="this system sends no ctrl-C to one process")
def test_an_interrupted_question_keeps_what_was_said(llama: Llama, model: Path) -> None:
    asked = subprocess.Popen(
        [sys.executable, "-m", "llama_core", "chat", str(model), "--prompt", "count"],
        stdout=subprocess.PIPE,
        env={**llama.env, "PYTHONUNBUFFERED": "1"},
        cwd=llama.project,
    )
    assert asked.stdout is not None
    begun = asked.stdout.read(20)
    asked.send_signal(signal.SIGINT)
    rest, _ = asked.communicate(timeout=PATIENCE_SECONDS)
    assert (begun + rest).startswith(b"one two three one ")
    assert rest.endswith(b"\n")
    assert asked.returncode == 130


def test_variables_reach_the_template(llama: Llama, model: Path) -> None:
    (llama.project / "own.jinja").write_text(
        "{% if quick is false and who == 'x=y' %}<|hello|>{% else %}<|more|>{% endif %}"
    )
    ask = ("chat", str(model), "--prompt", "hi", "--backend", "reference")
    own = (*ask, "--chat-template", "own.jinja")
    assert llama(*own, "--variable", "quick=false", "--variable", "who=x=y").out == "Hello there.\n"
    done = llama(*own, "--variable", "quick")
    assert done.code == 2
    assert "'quick' is no NAME=VALUE" in done.err


def test_a_pipe_is_one_question(llama: Llama, model: Path) -> None:
    command = [sys.executable, "-m", "llama_core", "chat", str(model), "--backend", "reference"]
    piped = subprocess.run(
        [*command, "--json"],
        input=b"one line\nand another\n",
        stdout=subprocess.PIPE,
        env=llama.env,
        cwd=llama.project,
        timeout=120,
    )
    assert json.loads(piped.stdout)["text"] == "Hello there."
    done = llama("chat", str(model), "--prompt", " ")
    assert (done.code, done.out) == (2, "")
    assert "nothing was asked: --prompt is empty" in done.err
    for given, says in ((b" \n", "nothing was asked"), (b"\xff", "no UTF-8")):
        done = llama("chat", str(model), "--backend", "reference", stdin=given)
        assert (done.code, done.out) == (2, "")
        assert says in done.err


def test_words_that_are_no_text_are_refused_as_typed(llama: Llama, model: Path) -> None:
    for said in (("--prompt", "\udcff"), ("--prompt", "x", "--system", "é\udcfe")):
        done = llama("chat", str(model), *said)
        assert (done.code, done.out) == (2, "")
        assert f"'{said[-2]}': it is no UTF-8, from byte {2 * (len(said) > 2)} on" in done.err


def test_files_may_begin_with_a_mark_of_byte_order(
    llama: Llama, model: Path, tmp_path: Path
) -> None:
    tools, saved = tmp_path / "tools.json", tmp_path / "chat.json"
    tools.write_text("[]", "utf-8-sig")
    saved.write_text(json.dumps([{"role": "user", "content": "Hi"}]), "utf-8-sig")
    done = llama("chat", str(model), "--prompt", "Hi", "--tools", str(tools), "--load", str(saved))
    assert done.code == 0, done.err


def test_the_models_own_defaults_and_what_beats_them(llama: Llama, tmp_path: Path) -> None:
    generation = {"do_sample": True, "temperature": 100.0, "top_k": 50}
    wild = scripted_model(tmp_path / "wild", generation=generation)
    ask = ("chat", str(wild), "--prompt", "hi", "--backend", "reference", "--max-tokens", "8")
    assert "Hello there." not in llama(*ask, "--seed", "1").out
    assert llama(*ask, "--temperature", "0").out == "Hello there.\n"
    done = llama(*ask, "--temperature", "0", "--top-k", "3")
    assert (done.code, done.out) == (2, "")
    assert "top-k does nothing at temperature 0" in done.err


def test_a_model_without_a_template_is_refused_with_the_remedy(
    llama: Llama, tmp_path: Path
) -> None:
    bare = str(scripted_model(tmp_path / "bare", template=None))
    done = llama("chat", bare, "--prompt", "hi", "--backend", "reference")
    assert done.code == 1
    assert "no chat template" in done.err
    assert "--chat-template FILE" in done.err
    (llama.project / "own.jinja").write_text("{{ messages[0].content }}<|hello|>")
    own = ("--chat-template", "own.jinja")
    done = llama("chat", bare, "--prompt", "hi", "--backend", "reference", *own)
    assert done.out == "Hello there.\n"


def test_what_does_not_fit_is_an_error_and_what_is_left_out_is_said(
    llama: Llama, model: Path
) -> None:
    small = (str(model), "--context", "64", "--backend", "reference")
    done = llama("chat", *small, "--prompt", "x" * 100)
    assert done.code == 1
    assert "the context holds 64" in done.err
    assert "or start with a larger --context" in done.err
    done = llama("chat", str(model), "--backend", "reference", "--prompt", "x" * 5000)
    assert "the context holds 4096. Say it in fewer words\n" in done.err, "it is the model's most"
    turns = [
        {"role": role, "content": "x" * 10} for _ in range(4) for role in ("user", "assistant")
    ]
    (llama.project / "long.json").write_text(json.dumps(turns))
    done = llama("chat", *small, "--load", "long.json", "--prompt", "hi")
    assert done.out == "We spoke before.\n"
    assert "without the oldest 3 turns" in done.err
