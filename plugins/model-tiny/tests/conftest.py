"""The recipe lies beside the package and is installed nowhere: its tests import it from here."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
