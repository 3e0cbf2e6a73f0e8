"""`make examples UNIT=x EXAMPLES=n`: that many examples of the properties that hold C equal to the reference.

    python -m tests.libcore.examples [UNIT ...] [--examples N] [--jobs N] [--seed S] [--record] [--again]

Each property of a unit (tests/libcore/properties.py) is tried with N examples; a parametrised one shares them among its
cases, and a unit of DEAR shares them among its properties. `--record` notes the run in docs/reference/proof.json with
the version of the sources it holds for; a unit whose noted run was clean, as long, and of these sources is passed over,
so an ended run goes on where it stood. A unit's runs are slices with seeds counted up from S: the seed of a slice that
fails is printed. Ends with 1 where one failed.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import os
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypothesis

from libcore import IMPLEMENTATION
from tests.libcore.c import proof
from tests.libcore.properties import PROPERTIES, ROOT, version

DEAR = frozenset({"compact", "digest", "envelope", "join", "transform", "transform_rates", "window"})
"""Units whose examples take so long that N are shared among their properties."""
_SLICE_TIMES = "10"  # slices are ten times the examples of `make test`: Hypothesis keeps in memory what it tried
_WORKER = "--worker"


class Counted:
    """A property that can be called again and again, and how many of its examples held.

    Args:
        name: file.function in tests/libcore.
    """

    def __init__(self, name: str) -> None:
        module, _, function = name.partition(".")
        self.test = getattr(importlib.import_module(f"tests.libcore.{module}"), function)
        self.held = 0
        inner = self.test.hypothesis.inner_test

        @functools.wraps(inner)
        def call(*arguments: Any, **named: Any) -> None:
            inner(*arguments, **named)
            self.held += 1

        self.test.hypothesis.inner_test = call

    def cases(self) -> list[dict[str, Any]]:
        """The arguments of its cases; one without any where it is not parametrised."""
        marks = [mark.args for mark in getattr(self.test, "pytestmark", ()) if mark.name == "parametrize"]
        choices = []
        for names, values, *_ in marks:
            split = [name.strip() for name in names.split(",")] if isinstance(names, str) else list(names)
            rows = values if len(split) > 1 else [(value,) for value in values]
            choices.append([dict(zip(split, row, strict=True)) for row in rows])
        return [
            {name: value for part in parts for name, value in part.items()} for parts in itertools.product(*choices)
        ]

    def run(self, examples: int, seeds: Iterator[int]) -> None:
        """At least that many examples in slices, shared among the cases. Raises what an example raises."""
        cases = self.cases()
        for number, case in enumerate(cases, 1):
            most = -(-examples * number // len(cases))
            while self.held < most:
                before, seed = self.held, next(seeds)
                try:
                    hypothesis.seed(seed)(self.test)(**case)
                except Exception as error:
                    error.add_note(f"{self.test.__name__} {case}: seed {seed}")
                    raise
                if self.held == before:  # every example was refused: more slices give no more
                    raise RuntimeError(f"{self.test.__name__} {case}: expected examples, seed {seed} gave none")


def work(unit: str, examples: int, seed: int) -> dict[str, int]:
    """Run a unit's properties in this process."""
    # before the tests are imported: their settings are made of these
    hypothesis.settings.register_profile(
        "examples", deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck),
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink], max_examples=100 * int(_SLICE_TIMES),
    )  # fmt: skip
    hypothesis.settings.load_profile("examples")
    names, seeds = PROPERTIES[unit], itertools.count(seed)
    share = -(-examples // len(names)) if unit in DEAR else examples
    done = {"properties": len(names), "examples": 0, "failures": 0}
    for name in names:
        counted = Counted(name)
        begun = time.process_time()
        try:
            counted.run(share, seeds)
        except Exception:
            traceback.print_exc()
            done["failures"] += 1
        taken = time.process_time() - begun
        print(f"  {name}: {counted.held:,} in {taken:.0f} s of the processor", file=sys.stderr, flush=True)
        done["examples"] += counted.held
    return done


def apart(unit: str, examples: int, seed: int) -> dict[str, Any]:
    """Run a unit in a process of its own, since what is wrong with C may end it."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "tests.libcore.examples", unit, _WORKER, "--examples", str(examples)]
    environment = {**os.environ, "HEADRACE_EXAMPLES": _SLICE_TIMES}
    done = subprocess.run(
        [*command, "--seed", str(seed)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 0:
        counts = json.loads(done.stdout)
    else:
        print(f"{unit}: its process ended with {done.returncode}", file=sys.stderr, flush=True)
        counts = {"properties": len(PROPERTIES[unit]), "examples": 0, "failures": 1}
    return {"date": proof.today(), **counts, "seconds": round(time.monotonic() - begun), "seed": seed}


def proven(unit: str, examples: int) -> bool:
    """Whether a clean run that was as long is noted for these sources."""
    note = proof.read().get("examples", {}).get(unit, {})
    least = examples * (1 if unit in DEAR else len(PROPERTIES[unit]))
    return not note.get("failures", 1) and note["examples"] >= least and note["sources"] == version(unit)


def one(unit: str, examples: int, seed: int, noted: Callable[[str, dict[str, Any]], None]) -> bool:
    """Run a unit, print its line, note it; whether all held."""
    sources = version(unit)
    note = apart(unit, examples, seed) | {"sources": sources}
    print(
        f"{unit:16} {note['properties']:3} properties {note['examples']:10,} examples {note['failures']:3} failures "
        f"{note['seconds']:6,} s",
        flush=True,
    )
    noted(unit, note)
    return not note["failures"]


def main() -> int:
    """Run the units; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("units", nargs="*", metavar="UNIT", help=f"all, or some of {', '.join(PROPERTIES)}")
    parser.add_argument("--examples", type=int, default=100_000, help="of each property")
    parser.add_argument("--jobs", type=int, default=1, help="units at once")
    parser.add_argument("--seed", type=int, default=1, help="of the first slice")
    parser.add_argument("--record", action="store_true", help="note the runs in docs/reference/proof.json")
    parser.add_argument("--again", action="store_true", help="also units whose noted run still holds")
    parser.add_argument(_WORKER, action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    units = [*PROPERTIES] if options.units in ([], ["all"]) else options.units
    if unknown := set(units) - set(PROPERTIES):
        sys.exit(f"make examples: expected UNIT to be all or some of {', '.join(PROPERTIES)}, found {sorted(unknown)}")
    if IMPLEMENTATION != "c":
        sys.exit("make examples compares C with the reference; found no C library (make build)")
    if options.worker:
        print(json.dumps(work(*units, options.examples, options.seed)))
        return 0
    lock = threading.Lock()

    def noted(unit: str, note: dict[str, Any]) -> None:
        with lock:  # a note is read, changed and written
            if options.record:
                proof.note("examples", unit, note)

    waiting = [unit for unit in units if options.again or not proven(unit, options.examples)]
    print(f"{len(units) - len(waiting)} of {len(units)} units are proven for these sources", flush=True)
    with ThreadPoolExecutor(options.jobs) as pool:
        held = list(pool.map(lambda unit: one(unit, options.examples, options.seed, noted), waiting))
    return not all(held)


if __name__ == "__main__":
    sys.exit(main())
