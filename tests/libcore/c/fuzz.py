"""`make fuzz`: hostile bytes into every decoder of libcore, built with the sanitizers; a minute in all.

    python -m tests.libcore.c.fuzz [--seconds N] [--runs N] [--seed S] [--match TEXT]

Each fuzz driver runs on its corpus, then on random mutations of it: its share of the seconds, or N mutations. The seed
is printed first: with the same commit and --runs it repeats a failure. `make fuzz-guided` finds what the corpus lacks.
"""

from __future__ import annotations

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.libcore.c import build

ENVIRONMENT = {"ASAN_OPTIONS": "halt_on_error=1:detect_leaks=1", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}


def sanitized(directory: Path) -> build.Builder:
    """Builds drivers that end at the first bad access, overflow or leak, into that directory."""
    return build.Builder(directory, [*build.SANITIZERS, "-O1"])


def run(builder: build.Builder, directory: Path, sources: Sequence[Path], limit: str, seed: int) -> None:
    """Build and run fuzz drivers. Raises CalledProcessError at the first that fails.

    Args:
        builder: of `sanitized`.
        directory: where the corpora are laid and the drivers run.
        limit: the driver's option that ends its mutations.
    """
    for source in sources:
        arguments = [str(builder.program(source)), limit, f"-seed={seed}", *map(str, build.corpus(source, directory))]
        print(" ".join([source.stem, *arguments[1:3]]), flush=True)
        subprocess.run(
            arguments, env={**os.environ, **ENVIRONMENT}, cwd=directory, check=True, stdout=subprocess.DEVNULL
        )


def main() -> int:
    """Run all; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=45, help="for the mutations of all fuzz drivers together")
    parser.add_argument("--runs", type=int, default=0, help="mutations for each fuzz driver instead of a time")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31 - 1) + 1)
    parser.add_argument("--match", default="", help="only fuzz drivers whose name holds this")
    options = parser.parse_args()
    if build.compiler() is None:
        sys.exit("make fuzz needs a C compiler (cc, gcc or clang); found none")
    sources = [path for path in build.fuzzers() if options.match in path.stem]
    share = max(1, options.seconds // max(1, len(sources)))
    limit = f"-runs={options.runs}" if options.runs else f"-max_total_time={share}"
    with tempfile.TemporaryDirectory(prefix="headrace-fuzz-") as scratch:
        try:
            run(sanitized(Path(scratch)), Path(scratch), sources, limit, options.seed)
        except subprocess.CalledProcessError as error:
            sys.exit(f"make fuzz: {Path(error.cmd[0]).name} ended with code {error.returncode}; seed {options.seed}")
    print(f"{len(sources)} fuzz drivers, {limit[1:]} each, seed {options.seed}: nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())
