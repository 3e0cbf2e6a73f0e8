"""A measure's output keeps its form, and its arithmetic is right on cases that can be checked by hand."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import run
from bench.measure import MemoryProbe, Result, descendants, memory_bytes, percentile, slope_percent, table

FIELDS = ["name", "value", "unit", "peer", "peer_value", "ratio", "peak_memory_mb", "equal"]


@given(st.floats(-50, 50), st.integers(10, 200), st.floats(1, 1e9))
def test_a_line_has_its_own_slope(percent: float, count: int, mean: float) -> None:
    """Samples that rise by p percent of their mean from first to last have slope p, however many and large they are."""
    samples = [(i / 10, mean * (1 + percent / 100 * (i / (count - 1) - 0.5))) for i in range(count)]
    assert slope_percent(samples) == pytest.approx(percent, abs=1e-6)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_has_that_share_below(values: list[float], share: float) -> None:
    """At least the share of the values is not above the percentile."""
    found = percentile(values, share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_a_result_is_one_line_with_exactly_these_fields() -> None:
    """The JSON that `headrace bench NAME --json` prints has the eight fields and nothing else."""
    result = Result("w1", 200_000.123456, "events/s", "script", 100_000.0, 2.0, 321.0, True)
    assert list(json.loads(result.to_json())) == FIELDS
    assert "\n" not in result.to_json()
    assert Result(**json.loads(result.to_json())).value == 200_000.123
    assert "200,000" in table([result])
    assert "NO" in table([Result("w1", 1.0, "x", "y", 1.0, 1.0, 0.0, False)])


def test_memory_of_children_counts() -> None:
    """The probe sees a child's 100 MB in the sum of its parent, and that a process which is gone has none."""
    grow = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    child = "import time; data = bytearray(100_000_000); data[::4096] = b'x' * len(data[::4096]); time.sleep(0.7)"
    process = subprocess.Popen([sys.executable, "-c", grow, child])
    with MemoryProbe(process.pid) as probe:
        process.wait()
    assert 100 < probe.peak_mb < 250
    assert memory_bytes(process.pid) == 0
    assert descendants(process.pid) == []


def test_an_unknown_measure_is_refused_by_name() -> None:
    """A measure that does not exist is refused with the list of those that do."""
    with pytest.raises(SystemExit, match="no measure 'w9'; expected one of w1, w1-null, w2"):
        run.main("w9", True)


def test_every_measure_loads() -> None:
    """Each name in the list leads to a function."""
    assert all(callable(run.function(name)) for name in run.MEASURES)
