"""Processors of a request: order, isolation, and guards that fail closed."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.preprocessor import Prompt
from llama_core.engine import wire
from llama_core.engine.faults import ProcessorFault
from llama_core.engine.processors import Postprocessors, prepare
from llama_core.engine.request import Use
from llama_core.errors import LlamaError, MissingCapability, OptionsError, PluginFault, StrictError
from llama_core.hookspecs import hookimpl
from llama_core.plugins import Config, Plugins

from .toy import Letters, ask, make, run


class Bombs(Letters):
    """Every token is the same word."""

    def feed(self, token: int) -> str:
        return "bomb"


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


class Brief:
    """Ends the answer at a full stop, and must not be called again."""

    def __init__(self) -> None:
        self.over = False

    def feed(self, piece: Piece) -> list[Piece]:
        assert not self.over
        self.over = "." in piece.text
        return [Piece(piece.text, stop=self.over), Piece("behind the end")][: 1 + self.over]

    def finish(self) -> list[Piece]:
        assert not self.over
        return []


AFTER = {"upper": Upper, "hold": Hold, "guard": Guard, "junk": Junk, "brief": Brief}


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
    assert prepare(plugins(), [Use("b"), Use("a")], Prompt(text="x")).text == "x+b+a"
    chain = Postprocessors(plugins(), [Use("hold"), Use("upper")])
    assert text(chain.feed(Piece("one tw"))) == "ONE "
    assert text(chain.feed(Piece("o three"))) == "TWO "
    assert text(chain.finish()) == "THREE"


def test_each_request_has_processors_of_its_own() -> None:
    several = plugins()
    one, two = (Postprocessors(several, [Use("hold")]) for _ in range(2))
    one.feed(Piece("mine"))
    assert text(two.finish()) == ""


def test_the_end_of_an_answer_is_passed_on_once() -> None:
    """What stops is not called again, nothing behind it comes, and what others held does."""
    chain = Postprocessors(plugins(), [Use("brief"), Use("hold")])
    assert text(chain.feed(Piece("one two"))) == "one "
    assert not chain.stopped
    assert text(chain.feed(Piece(" three. four"))) == "two three. "
    assert chain.stopped
    assert text(chain.feed(Piece("five"))) == ""
    assert text(chain.finish()) == "four"


def test_a_fault_of_the_applications_own_object_is_not_a_plugins() -> None:
    several = plugins()
    with pytest.raises(ProcessorFault, match="postprocessor Guard failed: RuntimeError"):
        Postprocessors(several, [Guard()]).feed(Piece("bomb"))
    assert several["mine"].num_faults == 0


def test_an_engine_guards_the_processors_of_its_requests() -> None:
    """By name, in the engine: a fault ends one request, is counted, and at last closes the door."""
    several = plugins(max_faults=2)
    engine = make(tokenizer=Bombs(), plugins=several)
    uses = (Use("guard", required=True),)
    for _ in range(2):
        answers = run(engine, ask("bad", postprocessors=uses), ask("good"))
        assert "plugin 'mine' failed in postprocessor 'guard'" in str(answers["bad", 0].error)
        assert answers["bad", 0].text == ""
        assert answers["good", 0].text == "bomb" * 8
    with pytest.raises(LlamaError, match="quarantined"):
        engine.add(ask("third", postprocessors=uses))
    assert not engine.has_work


def test_an_engine_leaves_out_aloud_what_is_not_required(caplog: pytest.LogCaptureFixture) -> None:
    engine = make(tokenizer=Bombs(), plugins=plugins())
    answer = run(engine, ask(max_tokens=2, postprocessors=(Use("upr"), Use("upper"))))["r", 0]
    assert answer.text == "BOMBBOMB"
    assert "postprocessor 'upr' is left out" in caplog.text
    with pytest.raises(MissingCapability, match="given no plugins"):
        make(tokenizer=Bombs()).add(ask(postprocessors=(Use("upper"),)))


def test_a_fault_ends_the_request_and_names_the_plugin() -> None:
    chain = Postprocessors(plugins(), [Use("guard")])
    assert text(chain.feed(Piece("fine"))) == "fine"
    with pytest.raises(PluginFault, match="plugin 'mine' failed in postprocessor 'guard'"):
        chain.feed(Piece("a bomb"))


def test_junk_is_a_fault_too() -> None:
    with pytest.raises(PluginFault, match="it passed on str where a Piece was due"):
        Postprocessors(plugins(), [Use("junk")]).feed(Piece("x"))
    with pytest.raises(PluginFault, match="it gave NoneType where list was due"):
        Postprocessors(plugins(), [Use("junk")]).finish()
    with pytest.raises(PluginFault, match="it gave NoneType where Prompt was due"):
        prepare(plugins(), [Use("nothing")], Prompt(text="x"))


@pytest.mark.parametrize(
    ("piece", "why"),
    [
        (Piece(5), "text is of the type int, not str"),  # type: ignore[arg-type]
        (Piece("x", channel=None), "channel is of the type NoneType"),  # type: ignore[arg-type]
        (Piece("x", data=None), "data is of the type NoneType"),  # type: ignore[arg-type]
        (Piece("x", stop="no"), "stop is of the type str, not bool"),  # type: ignore[arg-type]
        (Piece("x", data={"a": float("nan")}), "data is not plain JSON"),
        (Piece("x", data={"a": object()}), "data is not plain JSON"),
        (Piece("x", data={1: "a"}), "data has the name 1, which is no text"),  # type: ignore[dict-item]
    ],
)
def test_a_piece_that_no_reader_could_read_is_a_fault_of_who_made_it(
    piece: Piece, why: str
) -> None:
    class Odd(Upper):
        def feed(self, _: Piece) -> list[Piece]:
            return [piece]

    answers = run(make(tokenizer=Bombs()), ask("bad", postprocessors=(Odd(),)), ask("good"))
    assert isinstance(answers["bad", 0].error, ProcessorFault)
    assert f"postprocessor Odd failed: it passed on a Piece whose {why}" in str(
        answers["bad", 0].error
    )
    assert answers["good", 0].text == "bomb" * 8


def test_a_refusal_of_the_request_is_not_a_fault() -> None:
    several = plugins()
    with pytest.raises(LlamaError, match="not on my watch"):
        prepare(several, [Use("refuse")], Prompt(text="x"))
    assert several["mine"].num_faults == 0


def test_a_missing_processor_is_left_out_aloud(caplog: pytest.LogCaptureFixture) -> None:
    chain = Postprocessors(plugins(), [Use("upr"), Use("upper")])
    assert text(chain.feed(Piece("on"))) == "ON"
    assert "postprocessor 'upr' is left out" in caplog.text


def test_a_missing_required_processor_refuses_the_request() -> None:
    with pytest.raises(MissingCapability, match="postprocessor 'upr'"):
        Postprocessors(plugins(), [Use("upr", required=True)])


def test_wrong_options_refuse_the_request_whatever_the_mark() -> None:
    with pytest.raises(OptionsError, match="takes no options"):
        Postprocessors(plugins(), [Use("upper", {"louder": True})])


def test_strict_mode_leaves_nothing_out() -> None:
    with pytest.raises(StrictError, match="postprocessor 'upr' is left out"):
        Postprocessors(plugins(strict=True), [Use("upr")])


def test_a_guard_quarantined_by_its_faults_closes_the_door() -> None:
    several = plugins(max_faults=2)
    for _ in range(2):
        with pytest.raises(PluginFault):
            Postprocessors(several, [Use("guard", required=True)]).feed(Piece("bomb"))
    with pytest.raises(LlamaError, match="plugin 'mine' is quarantined: 2 fault"):
        Postprocessors(several, [Use("guard", required=True)])


class Marked(Hold):
    """Looks for special tokens."""

    markers = ("<call>",)


def test_the_special_tokens_that_a_processor_looks_for_are_in_its_text() -> None:
    asked = []

    class Tokenizer(Letters):
        def stream(self, show: Any = ()) -> Letters:
            asked.append(set(show))
            return self

    engine = make(tokenizer=Tokenizer())
    run(engine, ask("plain"), ask("marked", postprocessors=(Marked(), Upper())))
    assert asked == [set(), {"<call>"}]


def test_processors_travel_to_a_worker_by_name_and_with_their_mark() -> None:
    uses = (Use("hold"), Use("guard", {"why": ["x"]}, required=True))
    request = ask(postprocessors=uses)
    there = wire.to_request(json.loads(json.dumps(wire.from_request(request))))
    assert there.params.postprocessors == uses
    with pytest.raises(LlamaError, match="a Hold cannot travel"):
        wire.from_request(ask(postprocessors=(Hold(),)))
    for broken in (["hold", {}], ["hold", {}, 1], "hold"):
        message = wire.from_request(request)
        message["params"]["postprocessors"] = [broken]
        with pytest.raises(LlamaError, match="not a"):
            wire.to_request(message)


def test_processors_know_the_beginning_of_an_answer_that_is_continued() -> None:
    engine = make(plugins=plugins(), tokenizer=Letters())
    uses = {"postprocessors": (Use("hold"), Use("upper")), "seed": 5, "max_tokens": 12}
    whole = run(engine, ask("whole", (1, 2, 28), **uses))["whole", 0]
    assert whole.error is None
    for length in range(1, 12):
        begun = Postprocessors(plugins(), [Use("hold"), Use("upper")])
        shown = [begun.feed(Piece(Letters().feed(token))) for token in whole.tokens[:length]]
        own = {**uses, "max_tokens": 12 - length, "answer": tuple(whole.tokens[:length])}
        rest = run(engine, ask("rest", (1, 2, 28), **own))["rest", 0]
        assert "".join(map(text, shown)) + rest.text == whole.text
