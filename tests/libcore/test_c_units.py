"""The C tests of libcore: every c/test_*.c is built with all of libcore/src and run; every fuzz driver too, shortly."""

from __future__ import annotations

import subprocess
import warnings
from pathlib import Path

import pytest

from libcore.reference.hashing import xxh64
from tests.libcore.c import build

_NO_COMPILER = "no C compiler here: the C tests cannot be built; only the reference is checked"
_MUTATIONS = 2000


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> build.Builder | None:
    """Builds into one directory for the whole module; None where there is no compiler, which is said aloud."""
    if build.compiler() is None:
        warnings.warn(_NO_COMPILER, RuntimeWarning, stacklevel=1)
        return None
    return build.Builder(tmp_path_factory.mktemp("c"), ["-O1"])


def reference_holds() -> bool:
    """What is left to believe without a compiler: the reference gives the published words of XXH64."""
    return xxh64(b"") == 0xEF46DB3751D8E999 and xxh64(b"abc") == 0x44BC2CF5AD770999


def _run(program: Path, *arguments: str) -> str:
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{program.name} ended with code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("source", build.units(), ids=lambda path: path.stem)
def test_unit(source: Path, builder: build.Builder | None) -> None:
    """A C unit test holds, also with each of its allocations failing once and from then on."""
    if builder is None:
        assert reference_holds()
        return
    assert "0 do not hold" in _run(builder.program(source))


@pytest.mark.parametrize("source", build.fuzzers(), ids=lambda path: path.stem)
def test_fuzz_driver(source: Path, builder: build.Builder | None, tmp_path: Path) -> None:
    """A fuzz driver survives its corpus and some mutations of it; `make sanitize` and `make fuzz` run many."""
    if builder is None:
        assert reference_holds()
        return
    inputs = map(str, build.corpus(source, tmp_path))
    assert "mutations" in _run(builder.program(source), f"-runs={_MUTATIONS}", *inputs)


def test_a_failing_claim_fails_the_program(tmp_path: Path, builder: build.Builder | None) -> None:
    """The harness itself can fail: a claim that does not hold ends with code 1 and names its line."""
    if builder is None:
        assert reference_holds()
        return
    source = tmp_path / "test_canary.c"
    source.write_text('#include "check.h"\nint main(void) { CHECK_EQUAL(1, 2); return check_result("canary"); }\n')
    done = subprocess.run([builder.program(source)], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "expected 1, found 2" in done.stderr
