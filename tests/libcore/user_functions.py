"""Shared libraries of C functions for tests: built once a session and directory, from sources beside the tests."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

from flows import examples
from libcore import build_ffi
from tests.libcore.c import build

INCLUDE = build_ffi.ROOT / "include"
MISBEHAVING = build.HERE / "misbehaving.c"
PALLETS = Path(examples.__file__).parent / "pallets.c"


def library(source: Path, directory: Path) -> Path | None:
    """Build it by the example's build line; None, said aloud, where no compiler is."""
    compiler = build.compiler()
    if compiler is None:
        warnings.warn("no C compiler here: users' C functions cannot be built", RuntimeWarning, stacklevel=2)
        return None
    made = directory / f"lib{source.stem}.so"
    line = ["-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I", str(INCLUDE)]
    subprocess.run([compiler, *line, "-o", str(made), str(source)], check=True)
    return made
