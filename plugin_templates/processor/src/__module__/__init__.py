"""A postprocessor for llama-core: what it looks for is in `redact`, the hook in `plugin`."""
