"""What can be wrong with a run and its checkpoints, in words."""

from __future__ import annotations

from llama_core.errors import LlamaError


class RunError(LlamaError):
    """A run's folder cannot be made, opened or written."""

    code = "run_invalid"


class CheckpointError(LlamaError):
    """A checkpoint cannot be saved or loaded; what was saved before is as it was."""

    code = "checkpoint_failed"


class ForeignCheckpoint(CheckpointError):
    """A checkpoint of another run, another program or a later version."""

    code = "checkpoint_foreign"
