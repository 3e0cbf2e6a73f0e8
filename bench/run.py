"""Runs the measures: `python -m bench.run NAME [--json]`, or `--all` for every one with a table at the end.

Standard output has the result alone, one JSON line with --json; what happens meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench.measure import Result, table

Measure = Callable[[int, int, int], Result]


def _w1() -> Measure:
    from bench.w1 import w1

    return w1


def _w1_null() -> Measure:
    from bench.w1 import w1_null

    return w1_null


def _decode() -> Measure:
    from bench.decode import decode

    return decode


def _decode_flat() -> Measure:
    from bench.decode import decode_flat

    return decode_flat


def _latency_kafka() -> Measure:
    from bench.latency import latency_kafka

    return latency_kafka


def _soak() -> Measure:
    from bench.soak import soak

    return soak


# looked up on demand: a measure of one system must not need the drivers of another
MEASURES: dict[str, Callable[[], Measure]] = {
    "w1": _w1,
    "w1-null": _w1_null,
    "decode": _decode,
    "decode-flat": _decode_flat,
    "latency-kafka": _latency_kafka,
    "soak": _soak,
}


def measure(name: str, items: int = 1_000_000, pairs: int = 5, processes: int = 1) -> Result:
    """Run one measure. Raises SystemExit that lists the names for an unknown one.

    Args:
        name: one of MEASURES.
        items: item events in the workload.
        pairs: how many times ours and the peer run in turn.
        processes: worker processes of ours.
    """
    if name not in MEASURES:
        raise SystemExit(f"bench: no measure {name!r}; expected one of {', '.join(MEASURES)}")
    return MEASURES[name]()(items, pairs, processes)


def main(name: str, as_json: bool = False, *, items: int = 1_000_000, pairs: int = 5, processes: int = 1) -> int:
    """What `headrace bench NAME [--json]` does; exit code 1 where the result is not equal to the truth."""
    result = measure(name, items, pairs, processes)
    print(result.to_json() if as_json else table([result]), flush=True)
    return 0 if result.equal else 1


def every(items: int, pairs: int, processes: int, names: Sequence[str]) -> int:
    """Each measure in a process of its own, so that none inherits another's memory; the table at the end."""
    import json

    results, failed = [], []
    for name in names:
        options = ["--items", str(items), "--pairs", str(pairs), "--processes", str(processes)]
        arguments = [sys.executable, "-m", "bench.run", name, "--json", *options]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
        if done.stdout.strip():
            results.append(Result(**json.loads(done.stdout.strip().splitlines()[-1])))
        if done.returncode != 0:
            failed.append(name)
    print(table(results))
    if failed:
        print(f"failed, or not equal to the truth: {', '.join(failed)}")
    return 1 if failed else 0


def command(arguments: Sequence[str]) -> int:
    """The command line of this module; the exit code."""
    parser = argparse.ArgumentParser(prog="bench.run", description="Measure Headrace beside its peers.")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(MEASURES)}")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    parser.add_argument("--items", type=int, default=1_000_000, help="item events (1000000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs, of which the median counts (5)")
    parser.add_argument("--processes", type=int, default=1, help="worker processes of ours (1)")
    options = parser.parse_args(arguments)
    if options.all == bool(options.name):
        parser.error("expected one NAME, or --all")
    if options.all:
        return every(options.items, options.pairs, options.processes, list(MEASURES))
    return main(options.name, options.json, items=options.items, pairs=options.pairs, processes=options.processes)


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
