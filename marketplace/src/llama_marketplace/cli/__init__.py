"""The commands of `llama marketplace`, one module each."""
