"""From a text and the usual arguments to a request: what the facade's calls have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llama_core.engine.chains import standard
from llama_core.engine.faults import InvalidRequest
from llama_core.engine.load import Loaded
from llama_core.engine.request import Params, Request

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
    stop: str | Sequence[str]

    def __post_init__(self) -> None:
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
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
        )
        return Request(request.id, request.prompt, params)
