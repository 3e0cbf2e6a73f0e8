"""How this process treats freed memory: a worker that makes batches all day should not give them back each time."""

from __future__ import annotations

import pyarrow as pa

from libcore import IMPLEMENTATION, arrow_c


def keep_freed(size_bytes: int) -> bool:
    """Let the process keep up to that much freed memory for the next batch; call it once, where a worker starts.

    Without it glibc gives large blocks back at every free and takes them again zeroed: measured 12 instead of 32
    million rows/s for a scatter of 100,000 rows a batch. 64 MB serve batches of that size.

    It also holds glibc to two arenas: with one a thread a worker's memory crept up for millions of events, until every
    arena had met its worst batch (9 million events into a slow target: +4.1 % in the last two thirds, with two +1.0 %).

    Arrow then allocates through glibc too: its own pool keeps what each of a worker's threads has freed for itself. A
    join of 1.3 million events (six steps, their mergers and four appliers) peaked at 990 MB with it, at 850 MB without.

    Returns: whether the setting took; False for the reference, which allocates through pyarrow, and beside glibc.
    """
    if IMPLEMENTATION != "c":
        return False
    took = bool(arrow_c.lib.lc_keep_freed(size_bytes))
    if took:
        pa.set_memory_pool(pa.system_memory_pool())
    return took
