"""`make sanitize`: libcore under AddressSanitizer and UndefinedBehaviorSanitizer, first from C, then from Python.

    python -m tests.libcore.c.sanitize [--runs N] [pytest arguments, tests/libcore by default]

C: every unit test (with its allocation failures; leaks are found) and every fuzz driver on its corpus and N mutations.
Python: the cffi module is built with the sanitizers in a scratch copy of the project, and the tests run on that copy.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from libcore import build_ffi
from tests.libcore.c import build

ROOT = build_ffi.ROOT.parent
FOLDERS = ("libcore", "connectors", "flows", "control", "bench", "tests")
# the property tests: what is left out builds programs of its own, with its own flags
PYTHON = ["tests/libcore"]
PYTHON += [f"--ignore=tests/libcore/test_{name}.py" for name in ("c_units", "c_program", "canary", "fuzz")]
_TIMEOUT = "--timeout=900"  # of a test, which takes about five times as long as without the sanitizers
_OPTIONS = {
    "ASAN_OPTIONS": "abort_on_error=0:halt_on_error=1:detect_leaks=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
}


def from_c(scratch: Path, runs: int) -> None:
    """Build and run the C tests and fuzz drivers; CalledProcessError at the first that fails."""
    builder = build.Builder(scratch, [*build.SANITIZERS, "-O1"])
    environment = {**os.environ, **_OPTIONS}
    for source in build.units():
        subprocess.run([builder.program(source)], env=environment, cwd=scratch, check=True)
    for source in build.fuzzers():
        arguments = [str(builder.program(source)), f"-runs={runs}", *map(str, build.corpus(source, scratch))]
        subprocess.run(arguments, env=environment, cwd=scratch, check=True)


def _library(name: str) -> str:
    path = subprocess.run(
        [str(build.compiler()), f"-print-file-name={name}"], capture_output=True, text=True, check=True
    )
    return path.stdout.strip()


def copy_project(scratch: Path) -> None:
    """What a build and a test run need, without what was built."""
    ignored = shutil.ignore_patterns("*.so", "*.o", "_c.c", "__pycache__", "var")
    for name in FOLDERS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, scratch / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", scratch)


def from_python(scratch: Path, arguments: list[str]) -> None:
    """Build libcore._c with the sanitizers in a copy of the project and run pytest there; CalledProcessError."""
    copy_project(scratch)
    flags = " ".join([*build.SANITIZERS, "-g", "-O1"])
    subprocess.run(
        [sys.executable, "-m", "libcore.build_ffi"],
        cwd=scratch,
        env={**os.environ, "HEADRACE_CFLAGS": flags, "HEADRACE_CORE": "python"},
        check=True,
    )
    environment = {
        **os.environ,
        **_OPTIONS,
        # The interpreter itself is not instrumented and keeps memory for its whole life: leaks are the C tests' matter.
        "ASAN_OPTIONS": _OPTIONS["ASAN_OPTIONS"].replace("detect_leaks=1", "detect_leaks=0"),
        # libstdc++ too: without it the sanitizer cannot follow the C++ exceptions of pyarrow.
        "LD_PRELOAD": f"{_library('libasan.so')} {_library('libstdc++.so')}",
        "ARROW_DEFAULT_MEMORY_POOL": "system",  # so that pyarrow's buffers are watched as well
        "HEADRACE_CORE": "c",
    }
    # --capture=sys: pytest would swallow a sanitizer's report together with the file descriptor it goes to.
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--capture=sys", _TIMEOUT, *arguments]
    subprocess.run(command, cwd=scratch, env=environment, check=True)


def main() -> int:
    """Run both halves; 0 where nothing was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20000, help="mutations for each fuzz driver")
    options, rest = parser.parse_known_args()
    if build.compiler() is None:
        sys.exit("make sanitize needs a C compiler (cc, gcc or clang); found none")
    try:
        with tempfile.TemporaryDirectory(prefix="headrace-sanitize-") as scratch:
            from_c(Path(scratch), options.runs)
        with tempfile.TemporaryDirectory(prefix="headrace-sanitize-") as scratch:
            from_python(Path(scratch), rest or PYTHON)
    except subprocess.CalledProcessError as error:
        sys.exit(f"make sanitize: {' '.join(map(str, error.cmd))} ended with code {error.returncode}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
