"""`make simulate SEED=7` runs one seed, `make simulate SEEDS=1000` the seeds from 0 on; the last line counts the equal.

python -m tests.simulate --seed 7                    one seed, its scenario printed with --show
python -m tests.simulate --seeds 200 --from 1000     seeds 1000 to 1199
python -m tests.simulate --mode processes --seeds 5  in real processes, killed with SIGKILL
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections.abc import Callable

from tests.simulate.draw import draw
from tests.simulate.ends import Found
from tests.simulate.model import Scenario, show
from tests.simulate.run import MODES, differences, quiet
from tests.simulate.shrink import shrink

DIFFERENCES_SHOWN_MAX = 10


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; 0 where all results equal the truth."""
    options = _options(arguments)
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    started = time.monotonic()
    with quiet():
        equal = sum(_equal(seed, options) for seed in seeds)
    print(f"{options.mode}: {time.monotonic() - started:.1f} s")
    print(f"{len(seeds)} seeds, {equal} equal")
    return 0 if equal == len(seeds) else 1


def _equal(seed: int, options: argparse.Namespace) -> bool:
    """Run a seed; what is wrong is printed."""
    scenario, run = draw(seed), MODES[options.mode]
    if options.show:
        print(show(scenario))
    if faults := faults_of(scenario, run):
        report(scenario, faults, run, options.mode, options.shrink_s)
    return not faults


def faults_of(scenario: Scenario, run: Callable[[Scenario], Found]) -> list[str]:
    """What is wrong, a line each; an exception is one line, its last."""
    try:
        return differences(scenario, run)
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        return [f"{type(error).__name__}: {error} ({where.filename.rsplit('/', 1)[-1]}:{where.lineno})"]


def report(scenario: Scenario, faults: list[str], run: Callable[[Scenario], Found], mode: str, shrink_s: float) -> None:
    """Print how to replay the failure, and the smallest history that fails too."""
    print(f"seed {scenario.seed} fails; again: python -m tests.simulate --mode {mode} --seed {scenario.seed}")
    _print_faults(faults)
    if shrink_s > 0:
        kind = faults[0].split()[0]  # a smaller history with another fault says nothing of this one

        def fails(candidate: Scenario) -> bool:
            return any(line.split()[0] == kind for line in faults_of(candidate, run))

        small = shrink(scenario, fails, shrink_s)
        print(f"smallest that fails, {len(small.events)} of {len(scenario.events)} events:")
        print(show(small))
        _print_faults(faults_of(small, run))


def _print_faults(faults: list[str]) -> None:
    for line in faults[:DIFFERENCES_SHOWN_MAX]:
        print(f"  {line}")
    if len(faults) > DIFFERENCES_SHOWN_MAX:
        print(f"  and {len(faults) - DIFFERENCES_SHOWN_MAX} more")


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.simulate", description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first of them")
    parser.add_argument("--mode", choices=sorted(MODES), default="kernel", help="what runs the dataflow")
    parser.add_argument("--show", action="store_true", help="print each scenario")
    parser.add_argument("--shrink-s", type=float, default=60.0, help="seconds to make a failure small; 0: not at all")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
