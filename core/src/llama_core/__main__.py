"""`python -m llama_core` is the `llama` command, whatever else is called so on the path."""

from llama_core.cli import main

main()
