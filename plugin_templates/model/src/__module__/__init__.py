"""A model for llama-core: how it is made is in `recipe`, where it lies in `plugin`."""
