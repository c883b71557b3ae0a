"""The backend keeps the contract of its kind."""

from llama_core.testing import BackendContract


class TestCpu(BackendContract):
    provides = "cpu"
    tolerance = 1e-5
    options = ({}, {"threads": 1}, {"threads": 2, "tier": "portable"})
