"""`make coverage`: which lines and branches of libcore's C sources the tests reach.

    python -m tests.libcore.c.coverage [--python] [--record] [--missing NAME ...] [--lines N] [--branches N]

gcov over an unoptimised build: every C unit test (with its allocation failures), every fuzz driver on its corpus, and
with --python the property tests of tests/libcore on an instrumented module in a copy of the project. Counted are all
lines and branches of libcore/src/*.c and *.h that the compiler made code for, none left out: a branch is one way out of
one conditional jump, so `a && b` has four of them and a `switch` one a case. What a header defines inline counts once,
however many files include it. Ends with 1 where all files together are below the bounds.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libcore import build_ffi
from tests.libcore.c import build, proof, sanitize

FLAGS = ["--coverage", "-O0", "-fprofile-abs-path"]
LINES_MIN, BRANCHES_MIN = 95.0, 90.0
Place = tuple[str, int]  # function and line


@dataclass
class File:
    """What was reached of one source: how often each line and each way of its branches."""

    lines: dict[Place, int] = field(default_factory=dict)
    branches: dict[Place, list[int]] = field(default_factory=dict)

    def add(self, found: Iterable[dict[str, Any]]) -> None:
        """Add what gcov says of lines in one program."""
        for line in found:
            place = (line.get("function_name", ""), line["line_number"])
            self.lines[place] = self.lines.get(place, 0) + line["count"]
            counts = [branch["count"] for branch in line["branches"]]
            before = self.branches.get(place, [0] * len(counts))
            if len(before) != len(counts):
                raise RuntimeError(
                    f"{place}: expected {len(before)} branches as in the other build, found {len(counts)}"
                )
            self.branches[place] = [a + b for a, b in zip(before, counts, strict=True)]

    def totals(self) -> tuple[int, int, int, int]:
        """(lines reached, lines, ways of branches taken, ways)."""
        ways = [count for counts in self.branches.values() for count in counts]
        # one line of the source may be in several inlined functions; it is reached where one of them is
        lines: dict[int, int] = {}
        for (_, number), count in self.lines.items():
            lines[number] = lines.get(number, 0) + count
        return sum(count > 0 for count in lines.values()), len(lines), sum(count > 0 for count in ways), len(ways)

    def missing(self) -> list[str]:
        """The lines not reached, and those with a way not taken: "12", "15: 1 of 4 ways"."""
        found = {}
        for (_, number), count in self.lines.items():
            found[number] = found.get(number, 0) + count
        text = [(number, f"{number}") for number, count in found.items() if count == 0]
        for (_, number), ways in self.branches.items():
            if found[number] and not all(ways):
                text.append((number, f"{number}: {ways.count(0)} of {len(ways)} ways"))
        return [what for _, what in sorted(text)]


def gcov(objects: Sequence[Path], into: dict[str, File]) -> None:
    """Add the counts of those objects (with their .gcda beside them) by source; only libcore's own sources."""
    for place in objects:
        if not place.with_suffix(".gcda").exists():
            continue
        command = ["gcov", "--json-format", "--stdout", "--branch-probabilities", str(place)]
        done = subprocess.run(command, cwd=place.parent, capture_output=True, text=True, check=True)
        for report in done.stdout.splitlines():
            for source in json.loads(report)["files"]:
                path = Path(source["file"])
                if path.parent.name == "src" and path.parent.parent.name == "libcore":
                    into.setdefault(path.name, File()).add(source["lines"])


def from_c(scratch: Path, into: dict[str, File]) -> None:
    """The C tests and the fuzz drivers on their corpora. CalledProcessError where one fails."""
    builder = build.Builder(scratch, FLAGS)
    for source in build.units():
        subprocess.run([builder.program(source)], cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    for source in build.fuzzers():
        arguments = [builder.program(source), "-runs=0", *build.corpus(source, scratch)]
        subprocess.run(arguments, cwd=scratch, check=True, stdout=subprocess.DEVNULL)
    gcov([scratch / f"{path.stem}.o" for path in build_ffi.sources()], into)


def from_python(scratch: Path, into: dict[str, File]) -> None:
    """The property tests on an instrumented module in a copy of the project. CalledProcessError where one fails."""
    sanitize.copy_project(scratch)
    environment = {**os.environ, "HEADRACE_CFLAGS": " ".join([*FLAGS, "-DLC_TEST_ALLOC"]), "HEADRACE_CORE": "python"}
    subprocess.run([sys.executable, "-m", "libcore.build_ffi"], cwd=scratch, env=environment, check=True)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *sanitize.PYTHON]
    subprocess.run(command, cwd=scratch, env={**os.environ, "HEADRACE_CORE": "c"}, check=True)
    gcov(sorted((scratch / "libcore" / "src").glob("*.o")), into)


def table(found: dict[str, File]) -> tuple[str, list[int]]:
    """The report, and File.totals() of all files together."""
    rows = [f"{'file':24} {'lines':>14} {'':>6} {'branches':>14}"]
    sums = [0, 0, 0, 0]
    for name in sorted(found):
        totals = found[name].totals()
        sums = [a + b for a, b in zip(sums, totals, strict=True)]
        rows.append(row(name, totals))
    rows.append(row("all", sums))
    return "\n".join(rows), sums


def percent(part: int, whole: int) -> float:
    """How many in a hundred; nothing at all is whole."""
    return 100.0 if whole == 0 else 100.0 * part / whole


def row(name: str, totals: Sequence[int]) -> str:
    """One line of the report."""
    reached, lines, taken, ways = totals
    parts = (
        f"{reached:5,} /{lines:6,} {percent(reached, lines):6.1f} % {taken:6,} /{ways:6,} {percent(taken, ways):6.1f} %"
    )
    return f"{name:24} {parts}"


def main() -> int:
    """Measure and print; 1 below the bounds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", action="store_true", help="with the property tests: some minutes more")
    parser.add_argument("--missing", nargs="*", default=[], metavar="FILE", help="list what is not reached of these")
    parser.add_argument("--record", action="store_true", help="note the totals in docs/reference/proof.json")
    parser.add_argument("--lines", type=float, default=LINES_MIN, help="least percentage of lines")
    parser.add_argument("--branches", type=float, default=BRANCHES_MIN, help="least percentage of branches")
    options = parser.parse_args()
    if build.compiler() is None:
        sys.exit("make coverage needs gcc and gcov; found no C compiler")
    found: dict[str, File] = {}
    with tempfile.TemporaryDirectory(prefix="headrace-coverage-") as scratch:
        from_c(Path(scratch), found)
    if options.python:
        with tempfile.TemporaryDirectory(prefix="headrace-coverage-") as scratch:
            from_python(Path(scratch), found)
    text, (reached, all_lines, taken, ways) = table(found)
    lines, branches = percent(reached, all_lines), percent(taken, ways)
    for name in options.missing:
        print(f"{name}: not reached: {', '.join(found[name].missing()) or 'nothing'}")
    print(text)
    if options.record:
        totals = {
            "lines": round(lines, 1),
            "lines_all": all_lines,
            "branches": round(branches, 1),
            "branches_all": ways,
        }
        proof.note("coverage", "all", {"date": proof.today(), **totals})
    if lines < options.lines or branches < options.branches:
        print(f"coverage: expected {options.lines} % of lines and {options.branches} % of branches")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
