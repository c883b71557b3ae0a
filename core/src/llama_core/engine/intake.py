"""What a request needs before it runs: its parts checked, and all that each choice has of its own.

It knows the request, the tokenizer and how capabilities are made; of schedules, blocks and batches
it knows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llama_core.contracts.transform import SamplingContext
from llama_core.engine.answer import Answer, Tokenizer
from llama_core.engine.faults import ContextOverflow, InvalidRequest, ProcessorFault
from llama_core.engine.processors import Postprocessors
from llama_core.engine.request import Request
from llama_core.engine.sampling import Create, build, choice_seed, on_device
from llama_core.engine.sequence import Sequence as Stream
from llama_core.errors import LlamaError, MissingCapability
from llama_core.isolation import explain, let_pass
from llama_core.plugins import Plugins


class Intake:
    """Makes the answers of one engine. `samples` are the links that its program runs itself."""

    def __init__(
        self,
        plugins: Plugins | None,
        create: Create | None,
        tokenizer: Tokenizer | None,
        eos: frozenset[int],
        samples: frozenset[str],
    ) -> None:
        self.plugins = plugins
        self.create: Create = create or (plugins.create if plugins else no_capabilities)
        self.makers = plugins if create is None else None  # whose the links of chains are
        self.tokenizer = tokenizer
        self.eos = eos
        self.samples = samples

    def check(self, request: Request) -> None:
        """What a request needs of this engine, and what n choices cannot share."""
        params = request.params
        if (params.stop or params.postprocessors) and self.tokenizer is None:
            raise InvalidRequest(
                "stop strings and postprocessors need an engine with a tokenizer", param="stop"
            )
        for part in (*params.transforms, params.sampler, *params.postprocessors):
            if params.n > 1 and (hasattr(part, "accept") or hasattr(part, "feed")):
                raise InvalidRequest(
                    f"{params.n} choices cannot share one {type(part).__name__}, which remembers",
                    param="n",
                    remedy="Give it by name, so that each choice gets its own",
                )

    def answer(
        self, request: Request, choice: int, stream: Stream, limit: int, seed: int
    ) -> Answer:
        """Everything that one choice needs of its own."""
        params, processors = request.params, None
        ends = frozenset(params.stop_tokens) | (frozenset() if params.ignore_eos else self.eos)
        context = SamplingContext(
            request.prompt, list(request.answer), choice_seed(seed, choice), ends
        )
        try:
            chain = build(params, context, self.create, self.makers)
            if params.postprocessors:
                processors = Postprocessors(self.plugins, params.postprocessors)
            show = processors.markers if processors else ()
            return Answer(
                request,
                choice,
                stream,
                chain,
                limit=limit,
                ends=ends,
                device=None if params.logprobs is not None else on_device(chain, self.samples),
                seed=seed,
                decoder=None if self.tokenizer is None else self.tokenizer.stream(show),
                processors=processors,
            )
        except LlamaError:
            raise
        except BaseException as error:
            let_pass(error)
            raise ProcessorFault(f"the request could not be set up: {explain(error)}") from error


def no_capabilities(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    raise MissingCapability(f"this engine was given no way to make the {kind} {name!r}")


def check_whole(request: Request, max_rows: int) -> None:
    """What a program that reads a text in one step cannot serve."""
    if request.pooling is None:
        raise InvalidRequest(
            "this model reads a text as a whole and gives its hidden state; it continues none",
            param="pooling",
            remedy="Ask for pooling 'last' or 'mean'",
        )
    if len(request.prompt) > max_rows:
        raise ContextOverflow(
            f"this model reads a text in one step, which may have {max_rows} tokens, and the "
            f"prompt has {len(request.prompt)}",
            param="prompt",
            remedy=f"Shorten it by {len(request.prompt) - max_rows}",
        )
