"""`make fuzz`: hostile bytes into every decoder of libcore, built with the sanitizers.

    python -m tests.libcore.c.fuzz [--runs N] [--seed S]

Each fuzz driver runs on its corpus and N random mutations of it. The seed is printed first: with the same commit it
repeats a failure.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.libcore.c import build

ENVIRONMENT = {"ASAN_OPTIONS": "halt_on_error=1:detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


def run(directory: Path, runs: int, seed: int) -> int:
    """Build and run every fuzz driver; how many there were. Raises CalledProcessError at the first that fails."""
    builder = build.Builder(directory, [*build.SANITIZERS, "-O1"])
    for source in build.fuzzers():
        arguments = [str(builder.program(source)), f"-runs={runs}", f"-seed={seed}", *map(str, build.corpus(source))]
        print(" ".join(arguments[:3]), flush=True)
        subprocess.run(arguments, env={**os.environ, **ENVIRONMENT}, cwd=directory, check=True)
    return len(build.fuzzers())


def main() -> int:
    """Run all; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200_000, help="mutations for each fuzz driver")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31 - 1) + 1)
    options = parser.parse_args()
    if build.compiler() is None:
        sys.exit("make fuzz needs a C compiler (cc, gcc or clang); found none")
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as scratch:
        try:
            count = run(Path(scratch), options.runs, options.seed)
        except subprocess.CalledProcessError as error:
            sys.exit(f"make fuzz: {Path(error.cmd[0]).name} ended with code {error.returncode}; seed {options.seed}")
    print(f"{count} fuzz drivers, {options.runs:,} runs each, seed {options.seed}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
