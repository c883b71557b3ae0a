"""From one row of logits to one token: a chain of transforms, ended by a sampler.

The random number of a token depends on the request's seed and on the token's index alone, so the
result is the same whatever shares the batch and wherever the chain runs. A link that fails ends its
request, and counts against the plugin it was named of. It knows no scheduler.

Legend: V vocabulary, R rows of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from llama_core.contracts.sampler import Sampler
from llama_core.contracts.transform import SamplingContext, Transform, philox, uniform
from llama_core.engine.faults import SamplingFault
from llama_core.engine.request import Link, Logprob, Params
from llama_core.errors import LlamaError
from llama_core.isolation import explain, let_pass
from llama_core.plugins import Plugins

Create = Callable[[str, str, Mapping[str, Any]], Any]
Row = NDArray[np.float32]


def choice_seed(seed: int, choice: int) -> int:
    """The seed of one of the n choices of a request; the first keeps the request's own."""
    if choice == 0:
        return seed
    low, high, _, _ = philox((choice, 0, 1, 0), seed)
    return low | high << 32


class Chain:
    """The transforms and the sampler of one choice, with whatever they remember.

    `owners` are the plugins of each, the sampler's last: None where it is the application's own.
    """

    def __init__(
        self,
        transforms: Sequence[Transform],
        sampler: Sampler,
        context: SamplingContext,
        plugins: Plugins | None = None,
        owners: Sequence[str | None] = (),
    ) -> None:
        self.transforms = tuple(transforms)
        self.sampler = sampler
        self.context = context
        self._plugins = plugins
        self._owners = tuple(owners)
        links: list[tuple[int, Any]] = list(enumerate((*transforms, sampler)))
        self._memories = tuple([(n, link) for n, link in links if hasattr(link, "accept")])
        self._masks = tuple([(n, link) for n, link in links[:-1] if hasattr(link, "rollback")])
        self.greedy = getattr(sampler, "is_argmax", False) and not transforms

    def choose(self, logits_V: Row) -> tuple[int, Row]:
        """The token, and the logits that the transforms left."""
        logits_NV, at = logits_V[None], 0
        try:
            for at, link in enumerate(self.transforms):
                logits_NV = self._logits(at, link(logits_NV, self.context), len(logits_V))
            at = len(self.transforms)
            number = uniform(self.context.seed, self.context.index)
            token = int(self.sampler(logits_NV, np.array([number]), self.context)[0])
        except LlamaError:
            raise
        except BaseException as error:
            let_pass(error)
            raise self._fault(at, explain(error), error) from error
        if not 0 <= token < len(logits_V):
            raise self._fault(at, f"it chose token {token} of {len(logits_V)}")
        if not np.isfinite(logits_NV[0, token]):
            raise SamplingFault(
                f"the transforms left no token to choose: token {token} has logit "
                f"{logits_NV[0, token]} after {', '.join(map(_name, self.transforms)) or 'none'}"
            )
        return token, logits_NV[0]

    def _logits(self, at: int, given: object, size: int) -> Row:
        """What a transform gave, if it is an array of floats for one row."""
        if isinstance(given, np.ndarray) and given.dtype.kind == "f" and given.shape == (1, size):
            return np.asarray(given)  # without what a subclass may do
        what = type(given).__name__
        if isinstance(given, np.ndarray):
            what = f"{given.dtype} of shape {given.shape}"
        raise self._fault(at, f"it gave {what} instead of logits, floats of shape (1, {size})")

    def accept(self, token: int) -> None:
        for at, memory in self._memories:
            try:
                memory.accept(token)
            except LlamaError:
                raise
            except BaseException as error:
                let_pass(error)
                raise self._fault(
                    at, f"accepting token {token}, {explain(error)}", error
                ) from error

    def plausible(self, drafts: Sequence[int], vocab_size: int) -> int:
        """How many drafts the stateful transforms would allow: the rest need not be computed."""
        if not self._masks:
            return len(drafts)
        count, blank_NV = len(drafts), np.zeros((1, vocab_size), np.float32)
        for at, mask in self._masks:
            taken = 0
            try:
                while taken < count:
                    if mask(blank_NV, self.context)[0, drafts[taken]] == -np.inf:
                        break
                    mask.accept(drafts[taken])
                    taken += 1
                mask.rollback(taken)
            except LlamaError:
                raise
            except BaseException as error:
                let_pass(error)
                raise self._fault(at, f"on the drafts {drafts}, {explain(error)}", error) from error
            count = taken
        return count

    def _fault(self, at: int, why: str, cause: BaseException | None = None) -> LlamaError:
        """What a link did wrong, laid at its plugin's door where it has one."""
        is_sampler = at == len(self.transforms)
        link = self.sampler if is_sampler else self.transforms[at]
        where = f"{'sampler' if is_sampler else 'transform'} {_name(link)}"
        owner = self._owners[at] if self._owners else None
        if owner is None or self._plugins is None:
            return SamplingFault(f"{where} failed: {why}")
        return self._plugins.fault(owner, where, why, cause)


def build(
    params: Params, context: SamplingContext, create: Create, plugins: Plugins | None = None
) -> Chain:
    """The chain of one choice; what is given by name is made anew for it.

    `plugins` are who `create` asks, to be told of faults; None where it asks somebody else.
    """
    transforms = [
        create("transform", t.name, t.options) if isinstance(t, Link) else t
        for t in params.transforms
    ]
    sampler = params.sampler
    if isinstance(sampler, Link):
        sampler = create("sampler", sampler.name, sampler.options)
    owners: list[str | None] = []
    if plugins is not None:
        named = [("transform", each) for each in params.transforms] + [("sampler", params.sampler)]
        owners = [
            plugins.resolve(kind, each.name).plugin.name if isinstance(each, Link) else None
            for kind, each in named
        ]
    return Chain(transforms, cast(Sampler, sampler), context, plugins, owners)


def on_device(chain: Chain, samples: frozenset[str]) -> tuple[tuple[str, float], ...] | None:
    """The chain as a program that samples itself is told it; None where it has to run here.

    Each link says itself which standard one it is: what replaces one under its name does not.
    """
    told = []
    for link in (*chain.transforms, chain.sampler):
        own: Any = link
        name, number = own.standard if "standard" in vars(type(link)) else ("", 0.0)
        if name not in samples:
            return None
        told.append((str(name), float(number)))
    return tuple(told)


def logprob(logits_V: Row, token: int, count: int) -> Logprob:
    """Of a token, with the `count` likeliest; equals are ordered by id."""
    wide_V = logits_V.astype(np.float64)
    peak = wide_V.max()
    wide_V -= peak + np.log(np.exp(wide_V - peak).sum())
    rank = 1 + int(np.count_nonzero(wide_V > wide_V[token]))
    top: list[tuple[int, float]] = []
    if count:
        count = min(count, len(wide_V))
        least = np.partition(wide_V, -count)[-count]
        likely = np.flatnonzero(wide_V >= least)
        likely = likely[np.argsort(-wide_V[likely], kind="stable")][:count]
        top = list(zip(likely.tolist(), wide_V[likely].tolist(), strict=True))
    return Logprob(token, float(wide_V[token]), rank, top)


def _name(link: object) -> str:
    return type(link).__name__
