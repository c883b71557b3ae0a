"""One thread of torch for every test: the machine is shared, and sums keep one order."""

from __future__ import annotations

from importlib.util import find_spec

if find_spec("torch") is not None:
    import torch

    torch.set_num_threads(1)
