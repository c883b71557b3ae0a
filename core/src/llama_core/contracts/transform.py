"""A transform changes the logits of one request before a token is chosen.

It sees only its own request's rows, so that neither batch mates nor order of arrival can matter.
The rows of a call share one context: they are alternatives for one token. Rows of later positions,
as in verifying a draft, come in calls of their own with `accept` between them.

Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.spec import Spec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


CHOICE = 0  # the stream whose uniforms a sampler is handed; transforms number theirs from 1


def uniform(seed: int, index: int, stream: int = CHOICE) -> float:
    """The random number in [0, 1) of an output token: Philox4x32-10, keyed by the seed.

    The counter is (index, stream, 0, 0); of the four words the first two make 53 bits. Whoever
    samples elsewhere (a device, a fused kernel) computes this same number.
    """
    words = philox((index & 0xFFFFFFFF, stream & 0xFFFFFFFF, 0, 0), seed)
    return ((words[0] >> 5) * 67108864 + (words[1] >> 6)) / 9007199254740992


def philox(counter: tuple[int, int, int, int], key: int) -> tuple[int, int, int, int]:
    """Philox4x32-10 of Salmon et al. 2011: four 32-bit words from a counter and a 64-bit key."""
    a, b, c, d = counter
    k, j = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        m, n = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = n >> 32 ^ b ^ k, n & 0xFFFFFFFF, m >> 32 ^ d ^ j, m & 0xFFFFFFFF
        k, j = k + 0x9E3779B9 & 0xFFFFFFFF, j + 0xBB67AE85 & 0xFFFFFFFF
    return a, b, c, d


@dataclass(frozen=True, slots=True)
class SamplingContext:
    """What is known of the request when a token is chosen."""

    prompt: Sequence[int]
    output: Sequence[int]  # tokens chosen so far
    seed: int = 0
    eos: frozenset[int] = frozenset()

    @property
    def index(self) -> int:
        """The number of the token being chosen: with the seed, the counter of its random draw."""
        return len(self.output)

    def uniform(self, stream: int) -> float:
        """A random number for a transform that needs one; `stream` keeps it apart from others."""
        return uniform(self.seed, self.index, stream)


class Transform(Protocol):
    """Gives new logits; -inf forbids a token.

    What is -inf stays -inf, and every row keeps at least one token. It must not write into the
    array it is given.
    """

    def __call__(
        self, logits_NV: NDArray[np.float32], context: SamplingContext
    ) -> NDArray[np.float32]:
        """The logits after this transform."""


class StandardTransform(Transform, Protocol):
    """An optional power: one that says which standard link it is, so that a program may run it.

    A transform of one's own under a standard name leaves this out, and is then always called. It is
    the class's own: what is inherited does not count, since a subclass may compute something else.
    """

    standard: tuple[str, float]  # as in `step.DeviceSampling`; a sampler may say it too


class StatefulTransform(Transform, Protocol):
    """An optional power: a transform that remembers what was chosen, such as a grammar."""

    def accept(self, token: int) -> None:
        """The token was chosen."""

    def rollback(self, count: int) -> None:
        """The last `count` accepted tokens are taken back."""


SPEC: Spec[Transform] = Spec("transform", Transform, "llama_create_transform")
