"""The pre- and postprocessors of one request, in the order the request names them.

A request's processors are created for it and fed by it alone. One that is missing or quarantined is
left out aloud, unless the request marks it `required`: then the request is refused. One that fails
midway ends its request either way, so what a guard could not check is never passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from llama_core.contracts.postprocessor import SPEC as POST
from llama_core.contracts.postprocessor import Piece, Postprocessor
from llama_core.contracts.preprocessor import SPEC as PRE
from llama_core.contracts.preprocessor import Preprocessor, Prompt
from llama_core.contracts.spec import Spec
from llama_core.errors import LlamaError, OptionsError
from llama_core.plugins import Plugins

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Use:
    """One processor as a request names it."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False


@dataclass(frozen=True, slots=True)
class _Held:
    """A processor's object and whose it is, so that a fault can be laid at the right door."""

    plugin: str
    where: str
    object: Any


class Processors:
    """All processors of one request."""

    def __init__(self, plugins: Plugins, before: Sequence[Use], after: Sequence[Use]) -> None:
        self._plugins = plugins
        self._before = self._create(PRE, before)
        self._after = self._create(POST, after)

    def prepare(self, prompt: Prompt) -> Prompt:
        """The prompt as the preprocessors leave it."""
        for held in self._before:
            processor: Preprocessor = held.object
            prompt = self._call(held, partial(processor, prompt), Prompt)
        return prompt

    def feed(self, piece: Piece) -> list[Piece]:
        """What of the answer may be passed on after this piece."""
        return self._flow([piece], self._after)

    def finish(self) -> list[Piece]:
        """The answer has ended: what was held back, each flush passing through those after it."""
        pieces: list[Piece] = []
        for number, held in enumerate(self._after):
            processor: Postprocessor = held.object
            flushed = self._pieces(held, processor.finish)
            pieces += self._flow(flushed, self._after[number + 1 :])
        return pieces

    def _create(self, spec: Spec[Any], uses: Iterable[Use]) -> list[_Held]:
        made = []
        for use in uses:
            try:
                value = self._plugins.create(spec, use.name, use.options)
            except LlamaError as error:
                if use.required or isinstance(error, OptionsError):
                    raise  # wrong options are the request's own mistake
                what = f"{spec.kind} '{use.name}' is left out: {error.message}"
                self._plugins.announcements.fallback(what, remedy=error.remedy)
                continue
            owner = self._plugins.resolve(spec.kind, use.name).plugin.name
            made.append(_Held(owner, f"{spec.kind} '{use.name}'", value))
        return made

    def _flow(self, pieces: list[Piece], through: Sequence[_Held]) -> list[Piece]:
        for held in through:
            processor: Postprocessor = held.object
            fed = [self._pieces(held, partial(processor.feed, piece)) for piece in pieces]
            pieces = [piece for several in fed for piece in several]
        return pieces

    def _pieces(self, held: _Held, call: Callable[[], list[Piece]]) -> list[Piece]:
        pieces = self._call(held, call, list)
        wrong = next((each for each in pieces if not isinstance(each, Piece)), None)
        if wrong is not None:
            why = f"it passed on {type(wrong).__name__} where a Piece was due"
            raise self._plugins.fault(held.plugin, held.where, why)
        return pieces

    def _call(self, held: _Held, call: Callable[[], T], expected: type[T]) -> T:
        with self._plugins.guard(held.plugin, held.where):
            result = call()
        if not isinstance(result, expected):
            why = f"it gave {type(result).__name__} where {expected.__name__} was due"
            raise self._plugins.fault(held.plugin, held.where, why)
        return result
