"""Build the C tests and fuzz drivers of libcore: every source once, then one program a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
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


def files(fuzzer: Path) -> list[Path]:
    """Inputs that people wrote for a fuzz driver: corpus/NAME/* beside it, and tests/golden/NAME*."""
    name = fuzzer.stem.removeprefix("fuzz_")
    found = [*(HERE / "corpus" / name).glob("*"), *GOLDEN.glob(f"{name}*")]
    return sorted(path for path in found if path.is_file())


def corpus(fuzzer: Path, directory: Path) -> list[Path]:
    """All inputs that a fuzz driver starts from: its files, and what a guided fuzzer found (corpus/NAME.zip).

    Args:
        directory: where the inputs of the archive are laid, in a folder of the driver's name.
    """
    archive = HERE / "corpus" / f"{fuzzer.stem.removeprefix('fuzz_')}.zip"
    laid: list[Path] = []
    if archive.exists():
        folder = directory / f"{fuzzer.stem}.corpus"
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        laid = sorted(folder.iterdir())
    return [*files(fuzzer), *laid]


class Builder:
    """Compiles into one directory; the library's objects are made once and shared by all programs.

    Args:
        directory: where objects and programs go; it must exist.
        flags: more compiler and linker flags (optimisation, sanitizers).
        program: the compiler; default: compiler().
        linked: flags of the linker alone.
    """

    def __init__(
        self, directory: Path, flags: Sequence[str], program: str | None = None, linked: Sequence[str] = ()
    ) -> None:
        path = program or compiler()
        assert path is not None, "a Builder needs a C compiler: ask compiler() first"
        self._compiler, self._directory, self._flags, self._linked = path, directory, list(flags), list(linked)
        self._objects: list[Path] | None = None

    def program(self, source: Path) -> Path:
        """Build one test or fuzz driver; RuntimeError with the compiler's text where it does not compile."""
        if self._objects is None:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._objects = list(pool.map(self._object, build_ffi.sources()))
        program = self._directory / source.stem
        objects = map(str, self._objects)
        self._run([*self._common(), str(source), *objects, *self._linked, "-o", str(program), "-lm"])
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
