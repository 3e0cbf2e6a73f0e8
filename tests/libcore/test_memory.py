"""Keeping freed memory: batches come and go without a page fault for every page of theirs."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

from libcore import IMPLEMENTATION
from libcore.memory import keep_freed

# In a process of its own: the setting is the whole process's, and what other tests freed would be in the way.
_PROGRAM = """
import json, resource, sys
import pyarrow as pa
from libcore import memory, slots
took = memory.keep_freed(64 << 20) if sys.argv[1] == "keep" else False
record = pa.RecordBatch.from_arrays([pa.array(range(200_000))] * 8, [f"c{i}" for i in range(8)])
rows = pa.array(range(200_000), pa.int32())
for _ in range(3):
    slots.take(record, rows)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    slots.take(record, rows)
print(json.dumps([took, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def _faults(choice: str) -> tuple[bool, int]:
    # glibc's first thresholds, held: by itself it raises them by what was freed, so that imports decide what is seen
    held = {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072:glibc.malloc.trim_threshold=131072"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, choice],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **held},
    )
    took, faults = json.loads(done.stdout)
    return took, faults


def test_page_faults_end_where_the_setting_took() -> None:
    """With the setting, batches of 13 MB cost next to no page faults; where it does not exist
    (another C library, another allocator loaded before it), it says so and changes nothing."""
    took, kept = _faults("keep")
    _, given_back = _faults("default")
    if took:
        assert kept * 10 < given_back
    else:
        assert kept * 10 >= given_back
        assert IMPLEMENTATION == "python" or platform.libc_ver()[0] != "glibc" or "LD_PRELOAD" in os.environ


def test_the_reference_has_nothing_to_set() -> None:
    """The answer tells whether the setting took; asking for nothing is no error."""
    assert keep_freed(32 << 20) in (True, False)
    assert IMPLEMENTATION == "c" or not keep_freed(32 << 20)
