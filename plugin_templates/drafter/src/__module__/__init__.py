"""A drafter for llama-core: the rule is in `suffixes`, the hook in `plugin`."""
