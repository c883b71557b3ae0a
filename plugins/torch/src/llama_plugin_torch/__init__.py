"""llama-core on torch: a backend for every device of torch, and a provider of transformers models.

This package's `plugin` module is what the core imports; torch is imported when work begins.
"""
