"""A quantizer for llama-core: the rule is in `half_quadratic`, the hook in `plugin`."""
