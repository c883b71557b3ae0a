"""What a run has come to, kept so that nothing can take it away: its folder, checkpoints and logs.

It knows arrays, files and storages; it knows neither models nor data nor the loop that calls it.
"""

from __future__ import annotations

from llama_plugin_train.runs.arrays import Piece, Region
from llama_plugin_train.runs.changes import Change, Changes
from llama_plugin_train.runs.checkpoints import Checkpoints
from llama_plugin_train.runs.directory import RunDirectory
from llama_plugin_train.runs.faults import CheckpointError, ForeignCheckpoint, RunError
from llama_plugin_train.runs.journal import Journal

__all__ = [
    "Change",
    "Changes",
    "CheckpointError",
    "Checkpoints",
    "ForeignCheckpoint",
    "Journal",
    "Piece",
    "Region",
    "RunDirectory",
    "RunError",
]
