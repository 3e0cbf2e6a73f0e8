"""Seeded histories of an Oracle database with two instances; what the connector brings must equal the truth."""

from __future__ import annotations

import pytest

from tests.doubles.oracle import schedule
from tests.doubles.oracle.lob_rows import EDITS
from tests.doubles.oracle.mutations import FAULTS
from tests.doubles.oracle.schedule import READ, draw, show
from tests.doubles.oracle.seeds import equal, faults_of, shrink
from tests.doubles.oracle.types import STRING_BYTES_MAX
from tests.simulate.test_simulate import BASE

CHUNK = 25


@pytest.mark.parametrize("chunk", range(8))
def test_the_connector_brings_the_truth(chunk: int) -> None:
    """Whatever a seed draws, in the end the folded output of the connector is what the database holds."""
    first = BASE + chunk * CHUNK
    assert [seed for seed in range(first, first + CHUNK) if not equal(seed, shrink_s=20.0)] == []


def test_a_seed_is_a_history() -> None:
    """A seed gives the same history each time, and other seeds give others."""
    assert show(draw(7)) == show(draw(7))
    assert len({show(draw(seed)) for seed in range(20)}) == 20


def test_the_draw_has_everything() -> None:
    """Among 200 seeds is every kind of event, each mode and setting, and each table changes in all ways."""
    drawn = [draw(seed) for seed in range(200)]
    events = [event for one in drawn for event in one.events]
    kinds = {
        kind for kind in vars(schedule).values() if isinstance(kind, type) and kind.__module__ == schedule.__name__
    }
    assert {type(event) for event in events} == kinds - {schedule.Schedule}
    assert {(one.mode, one.on_lost) for one in drawn} == {
        (mode, lost) for mode in ("logminer", "logminer_committed") for lost in ("stop", "snapshot")
    }
    for setting in ("positional", "whole", "stripped"):
        assert {getattr(one, setting) for one in drawn} == {False, True}, setting
    changes = [event for event in events if isinstance(event, schedule.Change)]
    assert {(one.table, one.values is None) for one in changes} >= {(name, gone) for name in READ for gone in (0, 1)}
    assert {(one.unsupported, one.bare, one.step) for one in changes} >= {(True, True, 0), (False, False, 3)}
    assert any(one.to is not None for one in changes)
    assert {one.basic for one in changes} == {False, True}
    assert {one.how for one in events if isinstance(one, schedule.Edit)} == set(EDITS)
    given = [dict(one.values or ()) for one in changes if one.table == schedule.ITEMS]
    assert any(values.get("DOC") for values in given)
    for name in ("NOTE", "LONG", "DATA"):
        assert max(len(values.get(name) or "") for values in given) > STRING_BYTES_MAX, name  # type: ignore[arg-type]


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    """Each fault put in on purpose makes the seed recorded for it fail, which is equal without the fault."""
    seed, put_in = FAULTS[fault]
    assert faults_of(draw(seed)) == []
    with put_in():
        assert faults_of(draw(seed)) != []


def test_a_failure_shrinks() -> None:
    """The history of a failure becomes as small as its cause: an open transaction, and its restart."""
    seed, put_in = FAULTS["open transactions are forgotten at a restart"]
    with put_in():
        small = shrink(draw(seed), lambda smaller: bool(faults_of(smaller)), 20.0)
        assert faults_of(small) != []
    assert len(small.events) < len(draw(seed).events) / 2
