"""`make fuzz-guided UNIT=x MINUTES=n`: a coverage-guided fuzzer on a fuzz driver, and its corpus kept, minimised.

    python -m tests.libcore.c.guided UNIT [UNIT ...] [--minutes N] [--record] [--keep]

libFuzzer (clang with compiler-rt; on Debian clang-14 and libclang-rt-14-dev) runs the same drivers as `make fuzz`, with
AddressSanitizer and UndefinedBehaviorSanitizer. It starts from the corpus in tests and what earlier runs left in
build/fuzz/UNIT. Minutes are of processor time: beside other work a run takes longer. `--keep` then writes the smallest
set of inputs that reaches the same into corpus/UNIT.zip, from which `make fuzz` and `make test` start; `--record` notes
the run in docs/reference/proof.json. The first crash ends a unit's run; the input is left in build/fuzz/UNIT/crashes,
the command ends with 1, and the other units still run. An input that takes over --input-seconds, by the clock, counts
as a crash: where a run may be stopped and continued, give it hours.
"""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import Any

from libcore import build_ffi
from tests.libcore.c import build, proof

ROOT = build_ffi.ROOT.parent
WORK = ROOT / "build" / "fuzz"
INPUT_BYTES_MAX, INPUT_SECONDS, MEMORY_MB = 4096, 10, 2048
SLICE_MINUTES = 10.0  # what is found is in build/fuzz after each
FLAGS = ["-fsanitize=fuzzer-no-link,address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer",
         "-O1", "-DLC_LIBFUZZER"]  # fmt: skip
ENVIRONMENT = {"ASAN_OPTIONS": "detect_leaks=1:allocator_may_return_null=1", "UBSAN_OPTIONS": "print_stacktrace=1"}


def clang() -> str | None:
    """Path of a clang that has libFuzzer, None where there is none."""
    for name in ("clang", *(f"clang-{version}" for version in range(20, 11, -1))):
        path = shutil.which(name)
        if path is None:
            continue
        runtime = subprocess.run(
            [path, "-print-runtime-dir"], capture_output=True, text=True, check=False
        ).stdout.strip()
        if list(Path(runtime).glob("*fuzzer*")):
            return path
    return None


class Fuzzer:
    """One driver, built for libFuzzer, with its folders.

    Args:
        unit: the driver's name without fuzz_.
        builder: builds with clang.
        input_seconds: what one input may take, by the clock.
    """

    def __init__(self, unit: str, builder: build.Builder, input_seconds: int = INPUT_SECONDS) -> None:
        self.unit, self._input_seconds = unit, input_seconds
        self.source = build.HERE / f"fuzz_{unit}.c"
        self.program = builder.program(self.source)
        self.found, self.crashes, self.seeds = (WORK / unit / name for name in ("found", "crashes", "seeds"))
        for folder in (self.found, self.crashes):
            folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.seeds, ignore_errors=True)
        self.seeds.mkdir()
        build.corpus(self.source, self.seeds)
        for number, path in enumerate(build.files(self.source)):
            shutil.copy(path, self.seeds / f"file{number}-{path.name}")

    def _call(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(self.program), *map(str, arguments)]
        environment = {**os.environ, **ENVIRONMENT}
        return subprocess.run(
            command,
            cwd=WORK / self.unit,
            env=environment,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def run(self, minutes: float, seed: int) -> dict[str, Any]:
        """Fuzz for that many minutes of processor time, in slices with seeds counted up; what a note needs of it."""
        note = self._slice(min(minutes, SLICE_MINUTES), seed)
        while note["cpu_minutes"] < minutes and note["executions"] and not note["crashes"]:
            more = self._slice(min(minutes - note["cpu_minutes"] + 0.1, SLICE_MINUTES), seed := seed + 1)
            for name in ("minutes", "cpu_minutes", "executions", "crashes"):
                note[name] += more[name]
            note.update(edges=more["edges"], features=more["features"])
        return note | {name: round(note[name], 1) for name in ("minutes", "cpu_minutes")}

    def _slice(self, minutes: float, seed: int) -> dict[str, Any]:
        """One run of the fuzzer, by the clock. Its log is in build/fuzz/UNIT/log."""
        before = set(self.crashes.iterdir())
        begun, processor = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
        done = self._call(
            f"-max_total_time={max(1, round(60 * minutes))}", f"-max_len={INPUT_BYTES_MAX}", f"-seed={seed}",
            f"-timeout={self._input_seconds}", f"-rss_limit_mb={MEMORY_MB}", "-print_final_stats=1", "-reload=0",
            f"-artifact_prefix={self.crashes}/", self.found, self.seeds,
        )  # fmt: skip
        (WORK / self.unit / "log").write_text(done.stderr, "utf-8", "replace")
        new = {path.name for path in set(self.crashes.iterdir()) - before}
        crashes = [name for name in new if not name.startswith("slow-unit")]  # slow, and within what is allowed
        executions = re.findall(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
        edges = re.findall(r"\bcov: (\d+) ft: (\d+)", done.stderr)
        return {
            "date": proof.today(),
            "minutes": (time.monotonic() - begun) / 60,
            "cpu_minutes": (resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - processor) / 60,
            "executions": int(executions[-1]) if executions else 0,
            "edges": int(edges[-1][0]) if edges else 0,
            "features": int(edges[-1][1]) if edges else 0,
            "crashes": len(crashes),
            "seed": seed,
        }

    def keep(self) -> tuple[int, int]:
        """Write the smallest set of inputs with the same coverage into corpus/UNIT.zip: (inputs, bytes of the zip)."""
        with tempfile.TemporaryDirectory(dir=WORK) as scratch:
            done = self._call("-set_cover_merge=1", "-reload=0", scratch, self.found, self.seeds)
            chosen = sorted(Path(scratch).iterdir(), key=lambda path: path.name)
            if not chosen:
                raise RuntimeError(f"{self.unit}: libFuzzer kept nothing\n{done.stderr[-2000:]}")
            target = build.HERE / "corpus" / f"{self.unit}.zip"
            with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
                for path in chosen:  # a fixed time, so that the same inputs make the same file
                    archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes(), zipfile.ZIP_DEFLATED)
            return len(chosen), target.stat().st_size


def main() -> int:
    """Run the units one after the other; 1 where one crashed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("units", nargs="+", metavar="UNIT", help="names of drivers without fuzz_, or all")
    parser.add_argument("--minutes", type=float, default=30.0, help="of processor time, for each unit")
    parser.add_argument("--input-seconds", type=int, default=INPUT_SECONDS, help="allowed for one input")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--record", action="store_true", help="note the runs in docs/reference/proof.json")
    parser.add_argument("--keep", action="store_true", help="write the minimised corpus into corpus/UNIT.zip")
    options = parser.parse_args()
    compiler, known = clang(), [path.stem.removeprefix("fuzz_") for path in build.fuzzers()]
    if compiler is None:
        sys.exit("make fuzz-guided needs clang with libFuzzer (on Debian: apt-get install clang-14 libclang-rt-14-dev)")
    units = known if options.units == ["all"] else options.units
    if unknown := set(units) - set(known):
        sys.exit(f"make fuzz-guided: expected UNIT to be all or some of {', '.join(known)}, found {sorted(unknown)}")
    WORK.mkdir(parents=True, exist_ok=True)
    crashed = 0
    with tempfile.TemporaryDirectory(prefix="headrace-guided-") as scratch:
        builder = build.Builder(Path(scratch), FLAGS, compiler, ["-fsanitize=fuzzer"])
        for unit in units:
            fuzzer = Fuzzer(unit, builder, options.input_seconds)
            note = fuzzer.run(options.minutes, options.seed)
            if options.keep:
                note["inputs"], note["zip_bytes"] = fuzzer.keep()
            print(f"{unit}: {note}", flush=True)
            if options.record:
                proof.note("fuzz", unit, note)
            crashed += note["crashes"]
    return bool(crashed)


if __name__ == "__main__":
    sys.exit(main())
