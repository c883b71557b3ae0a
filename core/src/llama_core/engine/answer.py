"""One choice of one request while it is being answered: from tokens to text to pieces.

It knows the chain that chooses, the decoder, the stop strings and the postprocessors of its own
choice, and decides when the answer is over. It knows no batch, no block and no neighbour.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.postprocessor import Piece
from llama_core.contracts.step import DeviceSampling
from llama_core.engine.faults import ProcessorFault
from llama_core.engine.processors import Postprocessors
from llama_core.engine.request import Finish, Logprob, Request, Update, Usage
from llama_core.engine.sampling import Chain
from llama_core.engine.sequence import Sequence as Stream
from llama_core.engine.stops import Stops
from llama_core.isolation import explain, let_pass

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Decoder(Protocol):
    """Turns the tokens of one answer into text as they come."""

    def feed(self, token: int) -> str:
        """The text that this token completes; none while a character is unfinished."""

    def finish(self) -> str:
        """The rest."""


class Tokenizer(Protocol):
    """What the engine asks of a tokenizer."""

    def encode(self, text: str) -> Sequence[int]:
        """The tokens of a text."""

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of the tokens."""

    def stream(self, show: Collection[str] = ()) -> Decoder:
        """A new decoder for one answer; of the special tokens it leaves in the text these."""


class Answer:
    """A choice under way."""

    __slots__ = (
        "chain",
        "choice",
        "decoder",
        "device",
        "ends",
        "finish",
        "limit",
        "most",
        "num_cached",
        "num_pooled",
        "output",
        "plain",
        "pooled",
        "pooled_D",
        "processors",
        "prompt_logprobs",
        "request",
        "scored",
        "seed",
        "stopped_by",
        "stops",
        "stream",
    )

    def __init__(
        self,
        request: Request,
        choice: int,
        stream: Stream,
        chain: Chain,
        *,
        limit: int,
        seed: int = 0,
        ends: frozenset[int] = frozenset(),
        device: tuple[tuple[str, float], ...] | None = None,
        decoder: Decoder | None = None,
        processors: Postprocessors | None = None,
    ) -> None:
        self.request = request
        self.choice = choice
        self.stream = stream
        self.chain = chain
        self.seed = seed  # of the request; each choice derives its own from it
        self.limit = limit  # tokens of prompt and answer at which it ends
        self.most = limit - len(request.prompt)  # the same, of the answer alone
        self.ends = ends
        self.device = device
        self.decoder = decoder
        self.processors = processors
        params = request.params
        self.stops = Stops(params.stop, params.include_stop) if params.stop else None
        self.output: list[int] = chain.context.output  # type: ignore[assignment]  # a live list
        self.finish: Finish | None = None
        self.stopped_by: int | str | None = None
        self.num_cached = 0
        self.prompt_logprobs: list[Logprob | None] | None = (
            [None] if params.prompt_logprobs is not None and choice == 0 else None
        )
        self.scored = False  # whether those have gone out
        self.pooled_D: NDArray[np.float64] | None = None
        self.num_pooled = 0
        # Nothing but the likeliest token, or the program's own: a batch of them is taken at once.
        self.pooled = request.pooling is not None
        wanted = (params.logprobs, params.prompt_logprobs, request.pooling)
        self.plain = (chain.greedy or device is not None) and wanted == (None, None, None)

    @property
    def wants_every_row(self) -> bool:
        return self.request.pooling == "mean" or self.prompt_logprobs is not None

    def sampling(self) -> DeviceSampling | None:
        if self.device is None:
            return None
        index = len(self.output) + self.stream.num_ahead
        return DeviceSampling(self.device, self.chain.context.seed, index)

    def push(self, token: int) -> Sequence[Piece]:
        """Take the next token; gives what may be shown, and sets `finish` where it ends."""
        if self.stream.num_ahead:
            self.stream.settle(token)
        else:
            self.stream.tokens.append(token)
        self.output.append(token)
        if token in self.ends:
            self.finish, self.stopped_by = "stop", token
            return self.flush()
        if self.decoder is None:
            if len(self.output) >= self.most:
                self.finish = "length"
            return ()
        pieces = self._feed_text(self._text(self.decoder.feed, token))
        if self.finish is None and len(self.output) >= self.most:
            self.finish = "length"
        return [*pieces, *self.flush()] if self.finish else pieces

    def flush(self) -> Sequence[Piece]:
        """What was held back, at the end."""
        if self.decoder is None:
            return ()
        pieces: list[Piece] = []
        if self.stopped_by is None or isinstance(self.stopped_by, int):
            pieces += self._feed_text(self._text(self.decoder.finish))
            if self.stops is not None and self.stops.found is None:
                pieces += self._process(self.stops.finish())
        return pieces if self.processors is None else [*pieces, *self.processors.finish()]

    def resume(self) -> None:
        """Let chain, decoder and postprocessors know the beginning of the answer that was given.

        What they pass on of it was passed on before. Stop strings are looked for in what is new.
        """
        for token in self.request.answer:
            self.chain.accept(token)
            if self.decoder is not None:
                text = self._text(self.decoder.feed, token)
                if self.processors is not None:
                    self.processors.feed(Piece(text))

    def update(
        self, tokens: Sequence[int], pieces: Sequence[Piece], logprobs: Sequence[Logprob] = ()
    ) -> Update:
        update = Update(self.request.id, self.choice, tokens, pieces, logprobs)
        if self.finish is not None:
            update.finish = self.finish
            update.stopped_by = self.stopped_by
            update.usage = self.usage()
        return update

    def usage(self) -> Usage:
        produced = len(self.output) - len(self.request.answer)
        return Usage(len(self.request.prompt), produced, self.num_cached)

    def _feed_text(self, text: str) -> list[Piece]:
        if self.stops is not None:
            text = self.stops.feed(text)
            if self.stops.found is not None:
                self.finish, self.stopped_by = "stop", self.stops.found
        return self._process(text)

    def _process(self, text: str) -> list[Piece]:
        if self.processors is None:
            return [Piece(text)] if text else []
        pieces = self.processors.feed(Piece(text))
        if self.processors.stopped and self.finish is None:
            self.finish = "stop"
        return pieces

    def _text(self, decode: Callable[..., str], *token: int) -> str:
        try:
            text = decode(*token)
        except BaseException as error:
            let_pass(error)
            raise ProcessorFault(
                f"the tokenizer failed on {token or 'the end'}: {explain(error)}"
            ) from error
        assert isinstance(text, str)
        return text
