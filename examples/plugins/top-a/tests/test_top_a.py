from llama_core.testing import TransformContract


class TestTopA(TransformContract):
    provides = "top-a"
    options = ({}, {"a": 1.0})
