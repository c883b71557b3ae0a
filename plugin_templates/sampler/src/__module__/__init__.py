"""A sampler for llama-core: the rule is in `sigma`, the hook in `plugin`."""
