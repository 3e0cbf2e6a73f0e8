"""A canary: with a bug planted in the C library the property tests must fail, else they prove nothing."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.libcore.c import build, sanitize

# -DLC_CANARY lets values from before a delete come back in libcore/src/compact.c: a rare mixture of rows shows it
CAUGHT_BY = ("tests/libcore/test_compact.py", "-k", "agrees_with_the_reference")
UNTOUCHED = ("tests/libcore/test_slots.py", "-k", "take or scatter")
# the same examples at each run, and none made smaller: that takes longer than finding it
PROFILE = """
from hypothesis import Phase
settings.register_profile("canary", deadline=None, derandomize=True, phases=[Phase.generate])
settings.load_profile("canary")
"""


@pytest.fixture(scope="module")
def sick(tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """A copy of the project whose C library has the bug; None without a compiler, said aloud."""
    if build.compiler() is None:
        warnings.warn("no C compiler here: the canary is not built", RuntimeWarning, stacklevel=1)
        return None
    copy = tmp_path_factory.mktemp("canary")
    sanitize.copy_project(copy)
    with (copy / "tests" / "libcore" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(PROFILE)
    environment = {**os.environ, "HEADRACE_CFLAGS": "-O0 -DLC_CANARY", "HEADRACE_CORE": "python"}
    command = [sys.executable, "-W", "ignore", "-m", "libcore.build_ffi"]
    subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True)
    return copy


def run(copy: Path, *tests: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "HEADRACE_CORE": "c", "PYTHONPATH": str(copy)}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=100)


def test_the_suite_catches_a_planted_bug(sick: Path | None) -> None:
    """C with the bug fails the property tests of its unit: an example in which it differs, not a crash."""
    if sick is None:
        assert build.compiler() is None
        return
    done = run(sick, *CAUGHT_BY)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "1 failed" in done.stdout
    assert "test_agrees_with_the_reference" in done.stdout


def test_nothing_else_is_wrong_with_the_copy(sick: Path | None) -> None:
    """A unit that the bug does not touch passes in the same copy, so the failure is the bug's."""
    if sick is None:
        assert build.compiler() is None
        return
    done = run(sick, *UNTOUCHED)
    assert done.returncode == 0, done.stdout + done.stderr
