"""`make simulate SEED=7` runs one seed, `make simulate SEEDS=1000` the seeds from 0 on; the last line counts the equal.

python -m tests.simulate --seed 7                    one seed, its scenario printed with --show
python -m tests.simulate --seeds 200 --from 1000     seeds 1000 to 1199
python -m tests.simulate --mode processes --seeds 5  in real processes, killed with SIGKILL
"""

from __future__ import annotations

import argparse
import functools
import io
import multiprocessing
import sys
import time
import traceback
import typing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stdout
from unittest.mock import patch

from tests.simulate.draw import draw
from tests.simulate.ends import Found
from tests.simulate.model import Scenario, show
from tests.simulate.run import MODES, differences, quiet
from tests.simulate.shrink import shrink

DIFFERENCES_SHOWN_MAX = 10
SEEDS_A_PIECE = 50  # what a process of --jobs takes at once: some ten seconds


def main(arguments: list[str] | None = None) -> int:
    """Run seeds; 0 where all results equal the truth."""
    options = _options(arguments)
    seeds = [options.seed] if options.seed is not None else list(range(options.first, options.first + options.seeds))
    started = time.monotonic()
    equal = _all(seeds, options)
    print(f"{options.mode}: {time.monotonic() - started:.1f} s")
    print(f"{len(seeds)} seeds, {equal} equal")
    return 0 if equal == len(seeds) else 1


def _all(seeds: Sequence[int], options: argparse.Namespace) -> int:
    """How many seeds are equal; in several processes where --jobs says so, with a line about each piece."""
    pieces = [seeds[start : start + SEEDS_A_PIECE] for start in range(0, len(seeds), SEEDS_A_PIECE)]
    if options.jobs <= 1 or len(pieces) <= 1:
        return _piece(seeds, options)
    from tests.simulate.__main__ import _told as told  # by this name a spawned process finds it

    done = equal = 0
    with ProcessPoolExecutor(options.jobs, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(told, piece, options): len(piece) for piece in pieces}
        for future in as_completed(running):
            found, text = future.result()
            done, equal = done + running[future], equal + found
            print(f"{text}{done:,} of {len(seeds):,} seeds, {equal:,} equal", flush=True)
    return equal


def _told(seeds: Sequence[int], options: argparse.Namespace) -> tuple[int, str]:
    """_piece in another process: how many are equal, and what it printed."""
    with redirect_stdout(io.StringIO()) as text:
        return _piece(seeds, options), text.getvalue()


def _piece(seeds: Sequence[int], options: argparse.Namespace) -> int:
    # Bytewax asks isinstance() of protocols at every operator it draws; Python 3.11 collects their attributes anew each
    # time, a sixth of all seconds here. 3.12 keeps them.
    attributes = getattr(typing, "_get_protocol_attrs")  # noqa: B009
    with quiet(), patch.object(typing, "_get_protocol_attrs", functools.cache(attributes)):
        return sum(_equal(seed, options) for seed in seeds)


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
    parser.add_argument("--jobs", type=int, default=1, help="processes that share the seeds (1)")
    parser.add_argument("--show", action="store_true", help="print each scenario")
    parser.add_argument("--shrink-s", type=float, default=60.0, help="seconds to make a failure small; 0: not at all")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
