"""Every kernel of libcore on a fixed batch: processor nanoseconds a row of the C call alone, without its Python face.

    python -m bench.kernels [--rows N] [--rounds N] [--write] [--match TEXT]

The faces are called as the product calls them, with the library behind a proxy that times each function. `--write` puts
the result into docs/reference/kernel_ns.json, from which `make golden` makes the tables in docs/reference/libcore.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

ROWS, ROUNDS = 100_000, 5
COSTS = Path(__file__).parents[1] / "docs" / "reference" / "kernel_ns.json"


@dataclass(frozen=True)
class Case:
    """A batch and the calls on it.

    header: the header without .h. functions: the functions measured. batch: what the rows are. rows: how many each
    call of `call` hands to each function, all calls of it together. size: bytes of them.
    """

    header: str
    functions: tuple[str, ...]
    batch: str
    rows: int
    size: int
    call: Callable[[], object]


class Timed:
    """The library, with the seconds spent in each of its functions."""

    def __init__(self, lib: Any) -> None:
        self._lib = lib
        self.seconds: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._lib, name)
        if not callable(found):
            return found

        def call(*arguments: Any) -> Any:
            begun = time.thread_time()
            result = found(*arguments)
            self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - begun
            return result

        return call


def measured(case: Case, rounds: int) -> list[dict[str, Any]]:
    """Least of some rounds for each function of a case: what the code costs without what others did to the caches.

    Raises RuntimeError for a function that the case did not reach.
    """
    from libcore import arrow_c

    plain, seen = arrow_c.lib, []
    try:
        for _ in range(rounds):
            arrow_c.lib = timed = Timed(plain)
            case.call()
            seen.append(timed.seconds)
    finally:
        arrow_c.lib = plain
    found = []
    for function in case.functions:
        if function not in seen[0]:
            called = ", ".join(seen[0]) or "nothing"
            raise RuntimeError(f"{case.header}.h, {case.batch}: expected a call of {function}, found {called}")
        nanoseconds = 1e9 * min(one[function] for one in seen) / case.rows
        found.append(
            {
                "header": case.header,
                "function": function,
                "batch": case.batch,
                "ns_per_row": float(f"{nanoseconds:.3g}"),
                "bytes_per_row": round(case.size / case.rows),
            }
        )
    return found


def machine() -> str:
    """What the numbers were measured on: processor and compiler."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return f"{model}, {platform.system()} {platform.machine()}, cc -O3"


def main() -> int:
    """Measure, print a table, and write it where asked."""
    from bench.kernel_cases import MAKERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--match", default="", help="only makers of cases whose name holds this")
    parser.add_argument("--write", action="store_true", help="into docs/reference/kernel_ns.json")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    from libcore import memory

    memory.keep_freed(64 << 20)
    kernels: list[dict[str, Any]] = []
    for maker in MAKERS:
        if options.match not in maker.__name__:
            continue
        for case in maker(options.rows):
            for row in measured(case, options.rounds):
                kernels.append(row)
                print(f"{row['ns_per_row']:9.4g} ns/row {row['function']:24} {row['batch']}", flush=True)
    if options.write:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        head = {"date": today, "machine": machine(), "rows": options.rows, "rounds": options.rounds}
        COSTS.write_text(json.dumps({**head, "kernels": kernels}, indent=1, ensure_ascii=False) + "\n", "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
