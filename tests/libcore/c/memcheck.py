"""`make valgrind`: every C unit test and every fuzz corpus under valgrind's memcheck: no bad access, nothing leaks.

    python -m tests.libcore.c.memcheck [--record] [--match TEXT]

It sees what AddressSanitizer does not: values that were never written and decide something. Needs valgrind (Debian's
package of that name).
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.libcore.c import build, proof

FOUND = 99  # valgrind's own exit code for an error, so that it is told from a failing claim
COMMAND = ["valgrind", "--quiet", "--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all",
           "--track-origins=yes", f"--error-exitcode={FOUND}"]  # fmt: skip


def run(directory: Path, sources: Sequence[Path]) -> list[str]:
    """Build and run the programs; the names of those in which valgrind or a claim found a fault. Prints a line each."""
    builder, bad = build.Builder(directory, ["-O1"]), []
    for source in sources:
        begun, arguments = time.monotonic(), [str(builder.program(source))]
        if source in build.fuzzers():
            arguments += ["-runs=0", *map(str, build.corpus(source, directory))]
        done = subprocess.run([*COMMAND, *arguments], cwd=directory, capture_output=True, text=True, check=False)
        verdict = {0: "clean", FOUND: "valgrind found faults"}.get(done.returncode, f"ended with {done.returncode}")
        print(f"{source.stem:20} {verdict:22} {time.monotonic() - begun:6.1f} s", flush=True)
        if done.returncode != 0:
            print(done.stderr[-4000:], flush=True)
            bad.append(source.stem)
    return bad


def main() -> int:
    """Run all; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--match", default="", help="only programs whose name holds this")
    parser.add_argument("--record", action="store_true", help="note the totals in docs/reference/proof.json")
    options = parser.parse_args()
    if build.compiler() is None or shutil.which("valgrind") is None:
        sys.exit("make valgrind needs a C compiler and valgrind (on Debian: apt-get install valgrind)")
    sources = [path for path in [*build.units(), *build.fuzzers()] if options.match in path.stem]
    with tempfile.TemporaryDirectory(prefix="headrace-valgrind-") as scratch:
        bad = run(Path(scratch), sources)
    if options.record:
        proof.note("valgrind", "all", {"date": proof.today(), "programs": len(sources), "faults": len(bad)})
    print(f"valgrind: {len(sources)} programs, {len(bad)} with faults")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
