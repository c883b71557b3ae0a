"""Tensor parallelism for llama-core: ranks find each other in `meeting` and talk by `line`."""
