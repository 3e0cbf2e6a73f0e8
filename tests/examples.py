"""How many examples a property tries: HEADRACE_EXAMPLES=100 runs a hundred times as many, of every property."""

from __future__ import annotations

import os

TIMES = int(os.environ.get("HEADRACE_EXAMPLES", "1"))
