"""Processors of a request: order, isolation, and guards that fail closed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.preprocessor import Prompt
from llama_core.engine.processors import Processors, Use
from llama_core.errors import LlamaError, MissingCapability, OptionsError, PluginFault, StrictError
from llama_core.hookspecs import hookimpl
from llama_core.plugins import Config, Plugins


class Upper:
    def feed(self, piece: Piece) -> list[Piece]:
        return [Piece(piece.text.upper())]

    def finish(self) -> list[Piece]:
        return []


class Hold:
    """Passes words on only once they are whole."""

    def __init__(self) -> None:
        self.held = ""

    def feed(self, piece: Piece) -> list[Piece]:
        *whole, self.held = (self.held + piece.text).split(" ")
        return [Piece(word + " ") for word in whole]

    def finish(self) -> list[Piece]:
        return [Piece(self.held)]


class Guard:
    def feed(self, piece: Piece) -> list[Piece]:
        if "bomb" in piece.text:
            raise RuntimeError("cannot tell")
        return [piece]

    def finish(self) -> list[Piece]:
        return []


class Junk:
    def feed(self, piece: Piece) -> Any:
        return ["text"]

    def finish(self) -> Any:
        return None


AFTER = {"upper": Upper, "hold": Hold, "guard": Guard, "junk": Junk}


def before(name: str) -> Any:
    if name == "refuse":

        def refuse(prompt: Prompt) -> Prompt:
            raise LlamaError("not on my watch")

        return refuse
    if name == "nothing":
        return lambda prompt: None
    return lambda prompt: Prompt(text=f"{prompt.text}+{name}")


def plugins(**config: Any) -> Plugins:
    made = Plugins([], Config(**config))
    provides = [{"kind": "postprocessor", "name": name, "api": 1} for name in AFTER]
    provides += [
        {"kind": "preprocessor", "name": name, "api": 1} for name in ("a", "b", "refuse", "nothing")
    ]

    @hookimpl
    def llama_create_postprocessor(name: str) -> Any:
        return AFTER[name]()

    @hookimpl
    def llama_create_preprocessor(name: str) -> Any:
        return before(name)

    module = SimpleNamespace(
        llama_create_postprocessor=llama_create_postprocessor,
        llama_create_preprocessor=llama_create_preprocessor,
    )
    made.register(module, {"name": "mine", "summary": "Test processors", "provides": provides})
    return made


def text(pieces: list[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def test_they_run_in_the_order_the_request_names() -> None:
    chain = Processors(plugins(), [Use("b"), Use("a")], [Use("hold"), Use("upper")])
    assert chain.prepare(Prompt(text="x")).text == "x+b+a"
    assert text(chain.feed(Piece("one tw"))) == "ONE "
    assert text(chain.feed(Piece("o three"))) == "TWO "
    assert text(chain.finish()) == "THREE"


def test_each_request_has_processors_of_its_own() -> None:
    several = plugins()
    one, two = (Processors(several, [], [Use("hold")]) for _ in range(2))
    one.feed(Piece("mine"))
    assert text(two.finish()) == ""


def test_a_fault_ends_the_request_and_names_the_plugin() -> None:
    chain = Processors(plugins(), [], [Use("guard")])
    assert text(chain.feed(Piece("fine"))) == "fine"
    with pytest.raises(PluginFault, match="plugin 'mine' failed in postprocessor 'guard'"):
        chain.feed(Piece("a bomb"))


def test_junk_is_a_fault_too() -> None:
    with pytest.raises(PluginFault, match="it passed on str where a Piece was due"):
        Processors(plugins(), [], [Use("junk")]).feed(Piece("x"))
    with pytest.raises(PluginFault, match="it gave NoneType where list was due"):
        Processors(plugins(), [], [Use("junk")]).finish()
    with pytest.raises(PluginFault, match="it gave NoneType where Prompt was due"):
        Processors(plugins(), [Use("nothing")], []).prepare(Prompt(text="x"))


def test_a_refusal_of_the_request_is_not_a_fault() -> None:
    several = plugins()
    with pytest.raises(LlamaError, match="not on my watch"):
        Processors(several, [Use("refuse")], []).prepare(Prompt(text="x"))
    assert several["mine"].num_faults == 0


def test_a_missing_processor_is_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    chain = Processors(plugins(), [], [Use("upr"), Use("upper")])
    assert text(chain.feed(Piece("on"))) == "ON"
    assert "postprocessor 'upr' is left out" in caplog.text


def test_a_missing_required_processor_refuses_the_request() -> None:
    with pytest.raises(MissingCapability, match="postprocessor 'upr'"):
        Processors(plugins(), [], [Use("upr", required=True)])


def test_wrong_options_refuse_the_request_whatever_the_mark() -> None:
    with pytest.raises(OptionsError, match="takes no options"):
        Processors(plugins(), [], [Use("upper", {"louder": True})])


def test_strict_mode_leaves_nothing_out() -> None:
    with pytest.raises(StrictError, match="postprocessor 'upr' is left out"):
        Processors(plugins(strict=True), [], [Use("upr")])


def test_a_guard_quarantined_by_its_faults_closes_the_door() -> None:
    several = plugins(max_faults=2)
    for _ in range(2):
        with pytest.raises(PluginFault):
            Processors(several, [], [Use("guard", required=True)]).feed(Piece("bomb"))
    with pytest.raises(LlamaError, match="plugin 'mine' is quarantined: 2 fault"):
        Processors(several, [], [Use("guard", required=True)])
