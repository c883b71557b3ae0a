"""A transform changes the logits of one request before a token is chosen.

It sees only its own request's rows, so that neither batch mates nor order of arrival can matter.
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


class Transform(Protocol):
    """Gives new logits; -inf forbids a token. It must not write into the array it is given."""

    def __call__(
        self, logits_NV: NDArray[np.float32], context: SamplingContext
    ) -> NDArray[np.float32]:
        """The logits after this transform."""


class StatefulTransform(Transform, Protocol):
    """An optional power: a transform that remembers what was chosen, such as a grammar."""

    def accept(self, token: int) -> None:
        """The token was chosen."""

    def rollback(self, count: int) -> None:
        """The last `count` accepted tokens are taken back."""


SPEC: Spec[Transform] = Spec("transform", Transform, "llama_create_transform")
