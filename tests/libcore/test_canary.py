"""A canary: with a bug planted in the C library the property tests must fail, else they prove nothing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from tests.libcore.c import build, sanitize

# -DLC_CANARY lets values from before a delete come back in libcore/src/compact.c: a rare mixture of rows shows it
TESTS = ("tests/libcore/test_compact.py", "tests/libcore/test_slots.py", "-k", "agrees_with_the_reference")
# the same examples at each run, and none made smaller: that takes longer than finding it
PROFILE = """
from hypothesis import Phase
settings.register_profile("canary", deadline=None, derandomize=True, phases=[Phase.generate])
settings.load_profile("canary")
"""


def sick_copy(copy: Path) -> None:
    """Lay a copy of the project there, and build its C library with the bug."""
    sanitize.copy_project(copy)
    with (copy / "tests" / "conftest.py").open("a", encoding="utf-8") as conftest:
        conftest.write(PROFILE)
    environment = {**os.environ, "HEADRACE_CFLAGS": "-O0 -DLC_CANARY", "HEADRACE_CORE": "python"}
    command = [sys.executable, "-W", "ignore", "-m", "libcore.build_ffi"]
    subprocess.run(command, cwd=copy, env=environment, check=True, capture_output=True)


def run(copy: Path) -> subprocess.CompletedProcess[str]:
    """Run TESTS in the copy."""
    command = [sys.executable, "-m", "pytest", "-q", "-rfp", "-p", "no:cacheprovider", *TESTS]
    environment = {**os.environ, "HEADRACE_CORE": "c", "PYTHONPATH": str(copy)}
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(600)  # it compiles the whole library
def test_the_suite_catches_a_planted_bug(tmp_path: Path) -> None:
    """C with the bug fails the property tests of its unit, and of no other: by an example that differs, no crash."""
    if build.compiler() is None:
        warnings.warn("no C compiler here: the canary is not built", RuntimeWarning, stacklevel=1)
        assert os.environ.get("HEADRACE_CORE") != "c"
        return
    sick_copy(tmp_path)
    done = run(tmp_path)
    told = re.findall(r"^(FAILED|PASSED) tests/libcore/test_(\w+)\.py::", done.stdout, re.M)
    assert done.returncode == 1, done.stdout + done.stderr
    assert ("FAILED", "compact") in told
    assert ("PASSED", "slots") in told
    assert ("FAILED", "slots") not in told
