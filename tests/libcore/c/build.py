"""Build the C tests and fuzz drivers of libcore: every source once, then one program a file."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from libcore import build_ffi

HERE = Path(__file__).parent
GOLDEN = HERE.parent.parent / "golden"
WARNINGS = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter", "-Wno-unused-function"]
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"]


def compiler() -> str | None:
    """Path of a C compiler, None where there is none."""
    return next((path for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None)


def units() -> list[Path]:
    """The C unit tests, by name."""
    return sorted(HERE.glob("test_*.c"))


def fuzzers() -> list[Path]:
    """The fuzz drivers, by name."""
    return sorted(HERE.glob("fuzz_*.c"))


def corpus(fuzzer: Path) -> list[Path]:
    """Inputs that a fuzz driver starts from: corpus/NAME/* beside it, and tests/golden/NAME*."""
    name = fuzzer.stem.removeprefix("fuzz_")
    found = [*(HERE / "corpus" / name).glob("*"), *GOLDEN.glob(f"{name}*")]
    return sorted(path for path in found if path.is_file())


class Builder:
    """Compiles into one directory; the library's objects are made once and shared by all programs.

    Args:
        directory: where objects and programs go; it must exist.
        flags: more compiler and linker flags (optimisation, sanitizers).
    """

    def __init__(self, directory: Path, flags: Sequence[str]) -> None:
        path = compiler()
        assert path is not None, "a Builder needs a C compiler: ask compiler() first"
        self._compiler, self._directory, self._flags = path, directory, list(flags)
        self._objects: list[Path] | None = None

    def program(self, source: Path) -> Path:
        """Build one test or fuzz driver; RuntimeError with the compiler's text where it does not compile."""
        if self._objects is None:
            self._objects = [self._object(path) for path in build_ffi.sources()]
        program = self._directory / source.stem
        self._run([*self._common(), str(source), *map(str, self._objects), "-o", str(program), "-lm"])
        return program

    def _object(self, source: Path) -> Path:
        target = self._directory / f"{source.stem}.o"
        self._run([*self._common(), "-c", str(source), "-o", str(target)])
        return target

    def _common(self) -> list[str]:
        folders = [build_ffi.ROOT / "include", build_ffi.ROOT / "src", HERE]
        return [self._compiler, *WARNINGS, *self._flags, "-g", "-DLC_TEST_ALLOC", *(f"-I{path}" for path in folders)]

    @staticmethod
    def _run(arguments: list[str]) -> None:
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(arguments)}\n{done.stderr}")
