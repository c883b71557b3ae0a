"""What is asked of the engine and what it answers: frozen requests, streamed updates.

Every number has its bound here, and the bound is in the message. It knows neither how a request is
scheduled nor how a token is chosen.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from llama_core.contracts.postprocessor import Piece
from llama_core.engine.faults import ContextOverflow, InvalidRequest
from llama_core.errors import LlamaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from llama_core.contracts.postprocessor import Postprocessor
    from llama_core.contracts.sampler import Sampler
    from llama_core.contracts.transform import Transform

Finish = Literal["stop", "length", "cancelled", "deadline", "error"]


@dataclass(frozen=True, slots=True)
class Link:
    """A capability by name and options; this is how a chain travels to a worker."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Use:
    """A pre- or postprocessor by name; without one that is `required` the request is refused."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    required: bool = False


@dataclass(frozen=True, slots=True)
class Params:
    """How an answer is to be chosen, and when it ends."""

    max_tokens: int | None = None  #: None: as long as the context allows
    n: int = 1  #: how many answers; the prompt is computed once
    transforms: tuple[Link | Transform, ...] = ()  #: what changes the logits, in this order
    sampler: Link | Sampler = Link("greedy")  #: what chooses a token of the logits
    seed: int | None = None  #: the same seed gives the same answer; None: another each time
    stop: tuple[str, ...] = ()  #: texts that end the answer
    stop_tokens: frozenset[int] = frozenset()  #: tokens that end it, beside the model's own
    ignore_eos: bool = False  #: the model's own end of an answer does not end it
    include_stop: bool = False  #: whether the stop string itself is part of the text
    logprobs: int | None = None  #: how many alternatives beside the chosen token; None: no logprobs
    prompt_logprobs: int | None = None  #: the same of the prompt's tokens, from the second on
    processed_logprobs: bool = False  #: of what the transforms left, not of the model's own logits
    postprocessors: tuple[Use | Postprocessor, ...] = ()  #: what the text passes through, in order


@dataclass(frozen=True, slots=True)
class Request:
    """One question to the model, in tokens."""

    #: of the caller's choice; no two open requests share one, and one that was cancelled is open
    #: until the engine has heard so: give a new one each time
    id: str
    prompt: tuple[int, ...]  #: at least one token
    params: Params = Params()  #: greedy, as long as the context allows
    answer: tuple[int, ...] = ()  #: the beginning of an answer that is to be continued
    tenant: str = ""  #: shares turns fairly with others, and no cached prompt
    priority: int = 0  #: smaller is sooner
    deadline_seconds: float | None = None  #: from its arrival on; what is not done by then ends
    adapter: int = -1  #: slot of a compiled program; -1 for none
    #: give a hidden state instead of an answer: the last token's, or the mean of all
    pooling: Literal["last", "mean"] | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one engine serves at most. Whoever starts an engine decides these once."""

    max_rows: int = 512  #: tokens a step
    max_sequences: int = 64  #: sequences a step; n counts n
    max_length: int = 4096  #: tokens of prompt and answer
    #: requests not yet started; a face of the engine has no more open, started ones counted
    max_queued: int = 100_000
    max_logprobs: int = 20  #: alternatives beside a token
    max_stops: int = 16  #: stop strings of a request
    max_stop_characters: int = 256  #: of one of them
    max_links: int = 32  #: transforms, and postprocessors
    patience: int = 1000  #: later arrivals that one level of priority is worth


@dataclass(slots=True)
class Logprob:
    """A chosen token's log-probability, its rank (1 is likeliest), and the likeliest others."""

    token: int
    logprob: float
    rank: int
    top: list[tuple[int, float]] = field(default_factory=list)  #: pairs of token and logprob


@dataclass(frozen=True, slots=True)
class Usage:
    """What a choice took, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0  #: of the prompt, that were not computed anew


@dataclass(slots=True)
class Update:
    """What happened to one choice of a request in one step.

    Not frozen: a few hundred are made in each step, and a frozen one costs three times as much.
    """

    request_id: str  #: whose it is
    choice: int = 0  #: from 0 to n - 1
    tokens: Sequence[int] = ()  #: chosen since the update before
    pieces: Sequence[Piece] = ()  #: what may be shown since then, by channel
    logprobs: Sequence[Logprob] = ()  #: of `tokens`, where they were asked for
    prompt_logprobs: Sequence[Logprob | None] | None = None  #: once, with the first token
    hidden: NDArray[np.float32] | None = None  #: what `pooling` asked for
    finish: Finish | None = None  #: why the choice has ended; None while it goes on
    stopped_by: int | str | None = None  #: the token or text that ended it
    error: LlamaError | None = None  #: with the finish "error" and "deadline"
    usage: Usage | None = None  #: with `finish`
    last: bool = False  #: no choice of the request is open any more

    @property
    def text(self) -> str:
        """The new part of the answer proper, without reasoning and tool calls."""
        return "".join(p.text for p in self.pieces if p.channel == "content")


def check(request: Request, limits: Limits, vocab_size: int, adapter_slots: int) -> int:
    """Refuse what cannot be served; give the length that prompt and answer may reach."""
    check_types(request)
    params = request.params
    _text("id", request.id, 1, 256)
    _text("tenant", request.tenant, 0, 256)
    _number("n", params.n, 1, limits.max_sequences)
    _number("seed", params.seed, 0, 2**64 - 1)
    _number("logprobs", params.logprobs, 0, limits.max_logprobs)
    _number("prompt_logprobs", params.prompt_logprobs, 0, limits.max_logprobs)
    _number("priority", request.priority, -100, 100)
    if request.adapter == -1 or adapter_slots:
        _number("adapter", request.adapter, -1, adapter_slots - 1)
    else:
        raise InvalidRequest(
            f"adapter must be -1, not {request.adapter}: the program has no slots for adapters",
            param="adapter",
        )
    _count("transforms", len(params.transforms), limits.max_links, "parts")
    _count("postprocessors", len(params.postprocessors), limits.max_links, "parts")
    _count("stop", len(params.stop), limits.max_stops, "texts")
    _count("stop_tokens", len(params.stop_tokens), 4096, "tokens")
    for stop in params.stop:
        _text("stop", stop, 1, limits.max_stop_characters)
    seconds = request.deadline_seconds
    if seconds is not None and not (
        isinstance(seconds, int | float) and 0 < seconds <= 86_400 and not isinstance(seconds, bool)
    ):
        raise InvalidRequest(
            f"deadline_seconds must be above 0 and at most 86400, not {seconds!r}",
            param="deadline_seconds",
        )
    if not request.prompt:
        raise InvalidRequest(
            "the prompt has no tokens", param="prompt", remedy="Give it at least one"
        )
    for token in (*request.prompt, *request.answer, *params.stop_tokens):
        if not isinstance(token, int) or not 0 <= token < vocab_size:
            raise InvalidRequest(
                f"token ids must be from 0 to {vocab_size - 1}, not {token!r}",
                param="prompt",
                remedy="The tokenizer may not belong to this model",
            )
    if request.pooling is not None:
        return _check_pooling(request, limits)
    return _check_length(request, limits)


def check_types(request: object) -> None:
    """Refuse what a type checker would have: all that is called, counted or iterated later on."""
    if not isinstance(request, Request):
        raise InvalidRequest(
            f"a Request is wanted, not {type(request).__name__}",
            remedy="Loaded.request makes one of a text",
        )
    params = request.params
    _kind("id", request.id, (str,), "a text")
    _kind("tenant", request.tenant, (str,), "a text")
    _kind("params", params, (Params,), "Params")
    _kind("n", params.n, (int,), "a whole number")
    for name in ("ignore_eos", "include_stop", "processed_logprobs"):
        _kind(name, getattr(params, name), (bool,), "True or False")
    for name in ("priority", "adapter"):
        _kind(name, getattr(request, name), (int,), "a whole number")
    for name in ("prompt", "answer"):
        _kind(name, getattr(request, name), (tuple, list), "a tuple of token ids")
    _kind("pooling", request.pooling, (str, type(None)), "'last' or 'mean'")
    _kind("stop", params.stop, (tuple, list), "a tuple of texts")
    kinds = (frozenset, set, tuple, list)
    _kind("stop_tokens", params.stop_tokens, kinds, "a frozenset of token ids")
    _kind("transforms", params.transforms, (tuple, list), "a tuple")
    _kind("postprocessors", params.postprocessors, (tuple, list), "a tuple")
    for each in params.transforms:
        _part("transforms", each, Link, "__call__")
    _part("sampler", params.sampler, Link, "__call__")
    for one in params.postprocessors:
        _part("postprocessors", one, Use, "feed", "finish")


def _check_length(request: Request, limits: Limits) -> int:
    given = len(request.prompt) + len(request.answer)
    room = limits.max_length - given
    if room < 1:
        raise ContextOverflow(
            f"prompt and answer may have {limits.max_length} tokens together, and the prompt "
            f"has {given} already",
            param="prompt",
            remedy=f"Shorten it by {1 - room}",
        )
    asked = request.params.max_tokens
    _number("max_tokens", asked, 1, None)
    if asked is not None and asked > room:
        raise ContextOverflow(
            f"max_tokens must be from 1 to {room} after a prompt of {given} tokens "
            f"(the context holds {limits.max_length}), not {asked}",
            param="max_tokens",
        )
    return given + (room if asked is None else asked)


def _check_pooling(request: Request, limits: Limits) -> int:
    if request.pooling not in ("last", "mean"):
        raise InvalidRequest(
            f"pooling must be 'last' or 'mean', not {request.pooling!r}", param="pooling"
        )
    if request.params.n != 1 or request.answer or request.params.prompt_logprobs is not None:
        raise InvalidRequest(
            "a pooled request gives one hidden state: n must be 1, without a begun answer and "
            "without prompt_logprobs",
            param="pooling",
        )
    if len(request.prompt) > limits.max_length:
        raise ContextOverflow(
            f"the prompt may have {limits.max_length} tokens, and has {len(request.prompt)}",
            param="prompt",
            remedy=f"Shorten it by {len(request.prompt) - limits.max_length}",
        )
    return len(request.prompt)


def _number(name: str, value: int | None, low: int, high: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidRequest(f"{name} must be a whole number, not {value!r}", param=name)
    if value < low or (high is not None and value > high):
        bound = f"at least {low}" if high is None else f"from {low} to {high}"
        raise InvalidRequest(f"{name} must be {bound}, not {value}", param=name)


def _count(name: str, count: int, most: int, what: str) -> None:
    if count > most:
        raise InvalidRequest(f"{name} may have at most {most} {what}, not {count}", param=name)


def _text(name: str, value: str, shortest: int, longest: int) -> None:
    _kind(name, value, (str,), "a text")
    if not shortest <= len(value) <= longest:
        raise InvalidRequest(
            f"{name} must have from {shortest} to {longest} characters, not {len(value)}",
            param=name,
        )


def _kind(name: str, value: object, kinds: tuple[type, ...], wanted: str) -> None:
    if not isinstance(value, kinds):
        raise InvalidRequest(f"{name} must be {wanted}, not {value!r}", param=name)


def _part(name: str, part: object, named: type[Link] | type[Use], *methods: str) -> None:
    """What is named has a name and options; an object of one's own has what is called."""
    if isinstance(part, named):
        _kind(f"{name}: the name", part.name, (str,), "a text")
        _kind(f"{name}: the options of {part.name}", part.options, (Mapping,), "a mapping")
    elif not all(callable(getattr(part, method, None)) for method in methods):
        able = "be called" if methods == ("__call__",) else f"have {' and '.join(methods)}"
        raise InvalidRequest(
            f"{name} must be named by a {named.__name__} or {able}, not {part!r}",
            param=name,
            remedy=f'For instance: {named.__name__}("{_INSTANCES[name]}")',
        )


_INSTANCES = {"transforms": "temperature", "sampler": "greedy", "postprocessors": "reasoning"}
