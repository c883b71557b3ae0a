"""From a text and the usual arguments to a request: what the facade's calls have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Any

from llama_core.engine.chains import contradiction, standard
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import Loaded
from llama_core.engine.request import Link, Params, Request, Use
from llama_core.errors import LlamaError

DEFAULT_TOKENS = 256

# A capability by its name, with options or without.
Named = str | tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Asking:
    """How answers are to be chosen, in the words of the facade. Temperature 0 is greedy."""

    max_tokens: int | None
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    seed: int | None
    stop: str | Sequence[str] | None
    transforms: Sequence[Named] = ()
    sampler: Named | None = None
    preprocessors: Sequence[Named] = ()
    postprocessors: Sequence[Named] = ()

    def __post_init__(self) -> None:
        for name in ("temperature", "repetition_penalty"):
            _numeric(name, getattr(self, name), int | float, "a number")
        for name in ("top_p", "min_p"):
            _numeric(name, getattr(self, name), int | float | None, "a number")
        _numeric("top_k", self.top_k, int | None, "a whole number")
        if self.stop is not None and not isinstance(self.stop, str | list | tuple):
            raise InvalidRequest(
                f"stop must be a text or a list of texts, not {self.stop!r}", param="stop"
            )
        for name in ("transforms", "preprocessors", "postprocessors"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or _is_pair(given):
                wanted = "a list of names, or of pairs of name and options"
                raise InvalidRequest(f"{name} must be {wanted}, not {given!r}", param=name)
            list(_pairs(name, given))
        self._check_choice()

    def _check_choice(self) -> None:
        """What was said of choosing a token must not contradict itself."""
        sampler = self._sampler()
        said = [name for name in ("top_k", "top_p", "min_p") if getattr(self, name) is not None]
        said += ["temperature"] if self.temperature else []
        greedy = sampler is not None and sampler.name == "greedy"
        transforms = self._transforms()
        why = contradiction(said, self.temperature, transforms, sampler, is_argmax=greedy)
        if why is not None:
            raise InvalidRequest(why, param=said[0] if said else "transforms")

    def request(self, loaded: Loaded, text: str) -> Request:
        """The request for one text."""
        first = [Use(*one, required=True) for one in _pairs("preprocessors", self.preprocessors)]
        request = loaded.request(text, preprocessors=first)
        room = max(1, loaded.context_length - len(request.prompt))
        sampler = self._sampler()
        transforms, last = standard(
            # A sampler that was asked for chooses from the logits as they are, unless told.
            temperature=self.temperature or (0.0 if sampler is None else 1.0),
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty,
            transforms=self._transforms(),
            sampler=sampler,
        )
        params = Params(
            max_tokens=min(DEFAULT_TOKENS, room) if self.max_tokens is None else self.max_tokens,
            transforms=transforms,
            sampler=last,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
            postprocessors=tuple(
                Use(*one, required=True) for one in _pairs("postprocessors", self.postprocessors)
            ),
        )
        return replace(request, params=params)

    def _transforms(self) -> list[Link]:
        return [Link(*one) for one in _pairs("transforms", self.transforms)]

    def _sampler(self) -> Link | None:
        if self.sampler is None:
            return None
        return Link(*next(_pairs("sampler", [self.sampler])))


def _is_pair(given: object) -> bool:
    """One name with its options, where a list of them was due."""
    return isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], Mapping)


def _pairs(name: str, given: Sequence[object]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for one in given:
        if isinstance(one, str):
            yield one, {}
        elif _is_pair(one) and isinstance(one, tuple) and isinstance(one[0], str):
            yield one[0], one[1]
        else:
            raise InvalidRequest(
                f"{name}: a name, or a pair of name and options, is wanted, not {one!r}", param=name
            )


def _numeric(name: str, value: object, kinds: UnionType | type, wanted: str) -> None:
    if isinstance(value, bool) or not isinstance(value, kinds):
        raise InvalidRequest(f"{name} must be {wanted}, not {value!r}", param=name)


def of_prompt(number: int, error: LlamaError) -> LlamaError:
    """The error with the number of its prompt; a new one, since several prompts may share it."""
    found = type(error).__new__(type(error))
    found.__dict__.update(error.__dict__)
    found.message = f"prompts[{number}]: {error.message}"
    found.args = (found.message,)
    found.__cause__ = error
    return found
