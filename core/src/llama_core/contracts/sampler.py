"""A sampler ends the chain: it chooses a token from the logits that the transforms left.

Legend: N rows of the request in this step, V vocabulary.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from llama_core.contracts.spec import Spec
from llama_core.contracts.transform import SamplingContext

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Sampler(Protocol):
    """Chooses one token a row, using only the random numbers it is handed.

    An optional power: one that always takes the first of the likeliest may say `is_argmax = True`,
    and where nothing comes before it a program chooses in its place.
    """

    def __call__(
        self,
        logits_NV: NDArray[np.float32],
        uniforms_N: NDArray[np.float64],
        context: SamplingContext,
    ) -> NDArray[np.int64]:
        """A token id for each row. `uniforms_N` lie in [0, 1) and depend on seed and index only."""


SPEC: Spec[Sampler] = Spec("sampler", Sampler, "llama_create_sampler")
