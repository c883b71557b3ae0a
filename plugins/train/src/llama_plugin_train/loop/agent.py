"""The process that watches over the ranks of one machine: torch's elastic agent.

It leaves the ranks' exit codes in a file for whoever started it, and ends when that one does; the
ranks end when it does.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from signal import SIGTERM
from typing import Any

from llama_plugin_train.loop.parent import end_with

AGENT = "LLAMA_TRAIN_AGENT"  # in the ranks' environment: the process that watches over them
KILL_SECONDS = 5  # a rank that was asked to end has so long


def main(told: str) -> int:
    """Run a job; the ranks' exit codes go into the file that it names."""
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    about: dict[str, Any] = json.loads(told)
    end_with(about["parent"])
    os.environ[AGENT] = str(os.getpid())
    ranks = about["ranks"]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=ranks,
        run_id="llama-train",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=about["restarts"],
        shutdown_timeout=KILL_SECONDS,
    )
    codes = [0] * ranks
    try:
        elastic_launch(config, about["argv"][0])(*about["argv"][1:])
    except ChildFailedError as error:
        codes = [-SIGTERM] * ranks
        for rank, failure in error.failures.items():
            codes[rank] = failure.exitcode
    except SignalException:
        codes = [-SIGTERM] * ranks
    Path(about["codes"]).write_text(json.dumps(codes))
    return 0 if not any(codes) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
