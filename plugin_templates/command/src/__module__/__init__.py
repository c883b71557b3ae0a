"""A command for llama-core: what it counts is in `counting`, the command in `cli`."""
