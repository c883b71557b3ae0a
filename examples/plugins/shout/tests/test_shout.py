from llama_core.testing import PostprocessorContract


class TestShout(PostprocessorContract):
    provides = "shout"
