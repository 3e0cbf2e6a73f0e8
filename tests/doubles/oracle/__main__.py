"""Runs seeds of the Oracle connector against the double: `python -m tests.doubles.oracle --seeds 2000 --from 0`.

The last line counts the equal ones. A failure is told with the smallest history that fails too.
"""

from __future__ import annotations

import argparse
import sys
import time

from tests.doubles.oracle.schedule import draw, show
from tests.doubles.oracle.seeds import equal


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; 0 where all are equal."""
    parser = argparse.ArgumentParser(prog="python -m tests.doubles.oracle", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--show", action="store_true", help="print each history")
    parser.add_argument("--shrink-s", type=float, default=60.0, help="seconds to make a failure small; 0: not at all")
    options = parser.parse_args(arguments)
    seeds = [options.seed] if options.seed is not None else range(options.first, options.first + options.seeds)
    started, count = time.monotonic(), 0
    for seed in seeds:
        if options.show:
            print(show(draw(seed)))
        count += equal(seed, options.shrink_s)
    print(f"{time.monotonic() - started:.1f} s")
    print(f"{len(seeds)} seeds, {count} equal")
    return 0 if count == len(seeds) else 1


if __name__ == "__main__":
    sys.exit(main())
