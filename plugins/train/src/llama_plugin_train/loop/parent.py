"""Ending with the process that started this one, however that one ends.

Who is killed can tell nobody. So whoever was started for a job looks who its parent is, which
another process becomes when the first is gone; not on Windows, where it stays what it was.
"""

from __future__ import annotations

import os
import threading
import time

_LOOK_SECONDS = 1.0


def end_with(parent: int) -> None:
    """End this process, with nothing saved, soon after its parent is another than this one."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_LOOK_SECONDS)
        os._exit(1)  # the others wait for this one inside torch, where no exception reaches them

    threading.Thread(target=watch, name="llama-parent", daemon=True).start()
