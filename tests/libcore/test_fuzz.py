"""The fuzz smoke: every fuzz driver of `make fuzz`, with the sanitizers, on its kept corpus; about a minute in all.

HEADRACE_FUZZ_SEED=N takes other mutations, HEADRACE_FUZZ_SECONDS=N more of them. A failure is repeated by
`python -m tests.libcore.c.fuzz --match NAME --seed N --seconds N`.
"""

from __future__ import annotations

import os
import subprocess
import warnings
from pathlib import Path

import pytest

from tests.libcore.c import build, fuzz
from tests.libcore.test_c_units import reference_holds

SEED = int(os.environ.get("HEADRACE_FUZZ_SEED", "20260101"))
SECONDS = int(os.environ.get("HEADRACE_FUZZ_SECONDS", "45")) // max(1, len(build.fuzzers()))
BROKEN = """
#include <stddef.h>
#include <stdint.h>
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  volatile uint8_t last = size > 2 ? data[size] : 0;
  return last & 0;
}
#include "fuzz_driver.h"
"""


@pytest.fixture(scope="module")
def builder(tmp_path_factory: pytest.TempPathFactory) -> build.Builder | None:
    """Builds with the sanitizers, the library once; None where there is no compiler, which is said aloud."""
    if build.compiler() is None:
        warnings.warn("no C compiler here: nothing is fuzzed", RuntimeWarning, stacklevel=1)
        return None
    return fuzz.sanitized(tmp_path_factory.mktemp("fuzz"))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("source", build.fuzzers(), ids=lambda path: path.stem)
def test_no_input_breaks_a_decoder(source: Path, builder: build.Builder | None, tmp_path: Path) -> None:
    """No input of the corpus, and no mutation tried in the driver's share of the time, meets a sanitizer."""
    if builder is None:
        assert reference_holds()
        return
    assert build.corpus(source, tmp_path)
    fuzz.run(builder, tmp_path, [source], f"-max_total_time={max(1, SECONDS)}", SEED)


@pytest.mark.timeout(600)
def test_a_byte_too_far_is_found(builder: build.Builder | None, tmp_path: Path) -> None:
    """A driver that reads one byte behind its input ends the smoke: the sanitizers and the mutations are there."""
    if builder is None:
        assert reference_holds()
        return
    source = tmp_path / "fuzz_broken.c"
    source.write_text(BROKEN, "utf-8")
    with pytest.raises(subprocess.CalledProcessError):
        fuzz.run(builder, tmp_path, [source], "-runs=1000", SEED)
