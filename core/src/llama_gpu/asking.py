"""From a text and the usual arguments to a request: what the facade's calls have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import UnionType

from llama_core.engine.chains import standard
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import Loaded
from llama_core.engine.request import Params, Request
from llama_core.errors import LlamaError

DEFAULT_TOKENS = 256


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
        if self.temperature == 0:
            for name in ("top_k", "top_p", "min_p"):
                if getattr(self, name) is not None:
                    raise InvalidRequest(
                        f"{name} does nothing at temperature 0, which takes the likeliest token",
                        param=name,
                        remedy="Give a temperature above 0 too.",
                    )

    def request(self, loaded: Loaded, text: str) -> Request:
        """The request for one text."""
        request = loaded.request(text)
        room = max(1, loaded.context_length - len(request.prompt))
        transforms, sampler = standard(
            temperature=self.temperature,
            top_k=self.top_k or 0,
            top_p=1.0 if self.top_p is None else self.top_p,
            min_p=self.min_p or 0.0,
            repetition_penalty=self.repetition_penalty,
        )
        params = Params(
            max_tokens=min(DEFAULT_TOKENS, room) if self.max_tokens is None else self.max_tokens,
            transforms=transforms,
            sampler=sampler,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ()),
        )
        return replace(request, params=params)


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
