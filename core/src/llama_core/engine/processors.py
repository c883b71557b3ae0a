"""The pre- and postprocessors of one request, in the order the request names them.

A request's processors are created for it and fed by it alone. One that is missing or quarantined is
left out aloud, unless the request marks it `required`: then the request is refused. One that fails
midway ends its request either way, so what a guard could not check is never passed on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from llama_core.contracts.postprocessor import SPEC as POST
from llama_core.contracts.postprocessor import Piece, Postprocessor
from llama_core.contracts.preprocessor import SPEC as PRE
from llama_core.contracts.preprocessor import Prompt
from llama_core.contracts.spec import Spec
from llama_core.engine.faults import ProcessorFault
from llama_core.engine.request import Use
from llama_core.errors import LlamaError, MissingCapability, OptionsError
from llama_core.isolation import explain, let_pass
from llama_core.plugins import Plugins

T = TypeVar("T")

# They do nothing to a text. A `Conversation` uses both itself.
OF_CHATS = ("chat-template", "system-prompt")


@dataclass(slots=True)
class _Held:
    """A processor's object and whose it is, so that a fault can be laid at the right door."""

    plugin: str | None  # None: the application's own
    where: str
    object: Any
    over: bool = False  # it has passed on a piece with `stop`


def prepare(plugins: Plugins, uses: Iterable[Use], prompt: Prompt) -> Prompt:
    """The prompt as the preprocessors leave it."""
    for held in [_create(plugins, PRE, use) for use in uses]:
        if held is not None:
            prompt = _call(plugins, held, partial(held.object, prompt), Prompt)
    return prompt


class Postprocessors:
    """What the answer of one request passes through: by name, or an application's own objects."""

    def __init__(self, plugins: Plugins | None, named: Sequence[Use | Postprocessor]) -> None:
        self._plugins = plugins
        self._held = [held for one in named if (held := self._hold(one)) is not None]
        self.stopped = False  # one of them has ended the answer
        self.markers = frozenset(
            marker for held in self._held for marker in getattr(held.object, "markers", ())
        )

    def feed(self, piece: Piece) -> list[Piece]:
        """What of the answer may be passed on after this piece."""
        return self._through([piece], 0)

    def finish(self) -> list[Piece]:
        """The answer has ended: what was held back, each flush passing through those after it."""
        pieces: list[Piece] = []
        begin = max((n + 1 for n, held in enumerate(self._held) if held.over), default=0)
        for number, held in enumerate(self._held[begin:], begin + 1):
            pieces += self._through(self._pieces(held, held.object.finish), number)
        return pieces

    def _hold(self, one: Use | Postprocessor) -> _Held | None:
        if not isinstance(one, Use):
            return _Held(None, f"postprocessor {type(one).__name__}", one)
        if self._plugins is None:
            raise MissingCapability(
                f"this engine was given no plugins to make the postprocessor {one.name!r}"
            )
        return _create(self._plugins, POST, one)

    def _through(self, pieces: list[Piece], first: int) -> list[Piece]:
        for held in self._held[first:]:
            passed: list[Piece] = []
            for piece in pieces:
                if not held.over and (piece.text or piece.data or piece.stop):
                    passed += self._pieces(held, partial(held.object.feed, piece))
            pieces = passed
        return [piece for piece in pieces if piece.text or piece.data or piece.stop]

    def _pieces(self, held: _Held, call: Callable[[], list[Piece]]) -> list[Piece]:
        pieces = _call(self._plugins, held, call, list)
        for number, piece in enumerate(pieces):
            if not isinstance(piece, Piece):
                why = f"it passed on {type(piece).__name__} where a Piece was due"
                raise _fault(self._plugins, held, why)
            wrong = _wrong(piece)
            if wrong:
                raise _fault(self._plugins, held, f"it passed on a Piece whose {wrong}")
            if piece.stop:
                held.over = self.stopped = True
                return pieces[: number + 1]
        return pieces


def _wrong(piece: Piece) -> str | None:
    """What readers of an answer, and the wire to them, would stumble on."""
    for name, kind in (("text", str), ("channel", str), ("data", Mapping), ("stop", bool)):
        value = getattr(piece, name)
        if not isinstance(value, kind):
            return f"{name} is of the type {type(value).__name__}, not {kind.__name__}"
    if not piece.data:
        return None
    try:
        data = dict(piece.data)
        json.dumps(data, allow_nan=False)
    except Exception as error:  # noqa: BLE001  a mapping is its maker's code
        return f"data is not plain JSON: {explain(error)}"
    names = [name for name in data if not isinstance(name, str)]
    return f"data has the name {names[0]!r}, which is no text" if names else None


def _create(plugins: Plugins, spec: Spec[Any], use: Use) -> _Held | None:
    try:
        value = plugins.create(spec, use.name, use.options)
    except LlamaError as error:
        if use.required or isinstance(error, OptionsError):
            raise  # wrong options are the request's own mistake
        what = f"{spec.kind} '{use.name}' is left out: {error.message}"
        plugins.announcements.fallback(what, remedy=error.remedy)
        return None
    owner = plugins.resolve(spec.kind, use.name).plugin.name
    return _Held(owner, f"{spec.kind} '{use.name}'", value)


def _call(plugins: Plugins | None, held: _Held, call: Callable[[], T], expected: type[T]) -> T:
    if held.plugin is None or plugins is None:
        try:
            result = call()
        except LlamaError:
            raise
        except BaseException as error:
            let_pass(error)
            raise ProcessorFault(f"{held.where} failed: {explain(error)}") from error
    else:
        with plugins.guard(held.plugin, held.where):
            result = call()
    if not isinstance(result, expected):
        why = f"it gave {type(result).__name__} where {expected.__name__} was due"
        raise _fault(plugins, held, why)
    return result


def _fault(plugins: Plugins | None, held: _Held, why: str) -> LlamaError:
    if held.plugin is None or plugins is None:
        return ProcessorFault(f"{held.where} failed: {why}")
    return plugins.fault(held.plugin, held.where, why)
