"""A native backend for llama-core: the library is bound in `native`, used in `ops`."""
