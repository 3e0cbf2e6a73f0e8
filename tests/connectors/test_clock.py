"""Time as items: one at the start, one whenever an interval has passed, never back, also through restarts."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.clock import MINUTE_US, PART, Clock, ClockSource, SourceWithClock, standing_at
from connectors.base.items import Tick
from libcore.errors import ConfigurationError


class Hands:
    """A clock that a test turns."""

    def __init__(self, us: int) -> None:
        self.us = us

    def __call__(self) -> int:
        return self.us


def epoch(part: Any) -> list[Any]:
    """The items of one epoch."""
    items = part.next_batch()
    part.snapshot()
    return list(items)


@settings(max_examples=100, deadline=None)
@given(
    start=st.integers(0, 10**15),
    steps=st.lists(st.tuples(st.integers(-3 * MINUTE_US, 3 * MINUTE_US), st.booleans()), max_size=12),
)
def test_times_rise_and_come_once_an_interval(start: int, steps: list[tuple[int, bool]]) -> None:
    """Whatever the machine's clock does, whenever the flow restarts: a time at each start and at each new minute."""
    hands, newest = Hands(start), -1
    source = ClockSource(now=hands)
    part, state, fresh = source.build_part("source", PART, None), None, True
    for move, restart in steps:
        if restart:
            part, fresh = source.build_part("source", PART, state), True
        times = [item.us for item in part.next_batch() if isinstance(item, Clock)]
        state = part.snapshot()
        passed = hands.us // MINUTE_US > newest // MINUTE_US
        assert times == ([max(hands.us, newest)] if fresh or passed else [])
        newest, fresh = max([newest, *times]), False
        assert state == (1, newest)
        hands.us += move


def test_every_time_is_followed_by_two_ticks() -> None:
    """One in its own epoch, so that sinks write; one in the next, so that what they wrote is applied."""
    part = ClockSource(now=lambda: 7).build_part("source", PART, None)
    assert epoch(part) == [Clock(7), Tick()]
    assert epoch(part) == [Tick()]
    assert epoch(part) == [] and part.next_awake() is not None


def test_until_end_it_is_told_once() -> None:
    """One time, one more epoch with a Tick, then the end."""
    part = ClockSource(until_end=True, now=lambda: 7).build_part("source", PART, None)
    assert [epoch(part), epoch(part)] == [[Clock(7), Tick()], [Tick()]]
    with pytest.raises(StopIteration):
        part.next_batch()


class Named(ClockSource):
    """A source whose one part has a name of its own."""

    name = "another"

    def list_parts(self) -> list[str]:
        """See ClockSource."""
        return [self.name]


def test_beside_a_source_each_part_is_built_by_its_own() -> None:
    """The clock's part is one more part of the source, with a state of its own."""
    both = SourceWithClock(Named(now=lambda: 1), ClockSource(now=lambda: 9))
    assert both.list_parts() == ["another", PART]
    assert epoch(both.build_part("source", PART, (1, 20)))[0] == Clock(20)
    assert epoch(both.build_part("source", "another", None))[0] == Clock(1)


def test_a_table_of_the_clocks_name_is_refused() -> None:
    """A source's partition called as the clock's would be taken for it and never be read: the start says so."""
    source = Named(now=lambda: 1)
    source.name = PART
    with pytest.raises(ConfigurationError, match="expected no partition 'clock' in a source beside a `due` step"):
        SourceWithClock(source, ClockSource(now=lambda: 1)).list_parts()


def test_a_clock_may_stand() -> None:
    """A text gives the time in UTC where it names no other zone; nonsense is refused, and so is an interval of 0."""
    assert standing_at("2026-03-01T00:00:00Z")() == standing_at("2026-03-01")() == 1_772_323_200_000_000
    assert standing_at("2026-03-01T03:00:00.000001+03:00")() == 1_772_323_200_000_001
    with pytest.raises(ConfigurationError, match="expected a time such as 2026-03-01T00:00:00Z, found 'tomorrow'"):
        standing_at("tomorrow")
    with pytest.raises(ConfigurationError, match="expected more than 0 us"):
        ClockSource(0)


def test_state_of_another_version_is_refused() -> None:
    """What a later release wrote is not taken for a time."""
    with pytest.raises(ConfigurationError, match="version 1, found 2"):
        ClockSource().build_part("source", PART, (2, 7))
