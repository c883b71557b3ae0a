"""A backend for llama-core: what it computes is in `ops`, the hook in `plugin`."""
