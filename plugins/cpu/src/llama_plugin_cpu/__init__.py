"""The CPU backend: native kernels, one compiled program per model."""
