"""The measure of idle partitions: a rate from samples of a counter, read from the text of /metrics."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, generate_latest

from bench import idle


@given(
    pace=st.integers(1_000, 1_000_000),
    waits=st.lists(st.floats(0.01, 0.1), min_size=20, max_size=60),
    after=st.integers(0, 5),
    ahead=st.floats(0.0, 0.2),
)
def test_a_steady_pace_is_found_whatever_came_before_and_after(
    pace: int, waits: list[float], after: int, ahead: float
) -> None:
    """What was fetched ahead at the start, and samples after the last message, do not change the rate."""
    events = int(pace * sum(waits) / (1 - ahead))
    samples: idle.Samples = [(0.0, int(events * ahead))]
    for wait in waits:
        samples.append((samples[-1][0] + wait, samples[-1][1] + round(pace * wait)))
    samples += [(samples[-1][0] + 0.5 * (number + 1), samples[-1][1]) for number in range(after)]
    assert idle.rate(samples, samples[-1][1]) == pytest.approx(pace, rel=0.06)


def test_too_few_samples_are_refused() -> None:
    """A run that was over between two samples has no rate."""
    with pytest.raises(ValueError, match="expected a rise after 250 messages, found 1 samples"):
        idle.rate([(0.0, 0), (0.02, 1000)], 1000)


def test_messages_are_counted_over_all_tables() -> None:
    """The counter of messages is added up over its labels, and nothing else of /metrics."""
    registry = CollectorRegistry()
    events = Counter("headrace_events", "Messages", ["table"], registry=registry)
    Counter("headrace_batches", "Batches", ["table"], registry=registry).labels("a").inc(7)
    events.labels("a").inc(1_500_000)
    events.labels("b").inc(2)
    assert idle.counted(generate_latest(registry)) == 1_500_002
    assert idle.counted(b"") == 0
