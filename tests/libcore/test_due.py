"""Rows become due by time alone, each once, and the flag is always what row and time say."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libcore.change import UNSET, ChangeBatch, Op, arrow_schema
from libcore.due import BUCKET_US, Due, moments, plan_due
from libcore.errors import ConfigurationError
from libcore.schema import Column, Table, parse_type
from tests.examples import TIMES

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MINUTE_US = 60_000_000
STEP_US = 5 * MINUTE_US  # a third of a bucket
ZONES = ("UTC", "Europe/Istanbul", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu")
CHANGES = (
    ("Europe/Berlin", datetime(2026, 3, 29, 2, 30)),
    ("Europe/Berlin", datetime(2026, 10, 25, 2, 30)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, 0, 30)),  # the day begins at 1
    ("America/Sao_Paulo", datetime(2018, 2, 17, 23, 30)),
)


def table(at: str = "timestamptz", *more: Column) -> Table:
    columns = (Column("id", parse_type("int64")), Column("at", parse_type(at)), Column("text", parse_type("string")))
    return Table("rows", (*columns, *more), ("id",))


def batch(of: Table, rows: list[dict[str, Any]]) -> ChangeBatch:
    """Changes; a row with "unset" lacks that column."""
    with_unset = any("unset" in row for row in rows)
    schema = arrow_schema(of, with_unset=with_unset)
    names = [column.name for column in of.columns]
    made = []
    for place, row in enumerate(rows):
        bits = 1 << names.index(row["unset"]) if "unset" in row else 0
        control = {"__position": place.to_bytes(32, "big"), "__source_ts": None, UNSET: bytes([bits])}
        made.append({**dict.fromkeys(names), "__op": int(Op.UPSERT), **row, **control})
    return ChangeBatch(of, pa.RecordBatch.from_pylist(made, schema=schema))


class Target:
    """What a reader of the result has."""

    def __init__(self) -> None:
        self.rows: dict[int, dict[str, Any]] = {}
        self.times: list[int] = []  # ids, as they came

    def take(self, found: ChangeBatch | None) -> None:
        for row in [] if found is None else found.record.to_pylist():
            self.times.append(row["id"])
            if row["__op"] == Op.DELETE:
                self.rows.pop(row["id"], None)
            else:
                self.rows[row["id"]] = {name: row[name] for name in row if not name.startswith("__")}


events = st.lists(
    st.one_of(
        st.tuples(st.just("time"), st.integers(-2, 9)),
        st.tuples(
            st.just("rows"),
            st.lists(
                st.tuples(st.integers(0, 3), st.none() | st.integers(0, 8), st.sampled_from(["u", "u", "d", "keep"])),
                min_size=1,
                max_size=5,
            ),
        ),
        st.tuples(st.just("restart"), st.none()),
        st.tuples(st.just("truncate"), st.none()),
    ),
    max_size=14,
)


@settings(max_examples=200 * TIMES, deadline=None)
@given(events)
def test_the_flag_is_what_row_and_time_say(history: list[tuple[str, Any]]) -> None:
    """After every event the result is the rows with `at <= greatest time`; time alone brings only rows that turn.

    A restart may forget a time at which nothing turned, until the source tells the next: till then a flag may be
    missing, but one that was set stays set.
    """
    plan = plan_due(table(), "at", "is_due", "UTC", "flagged")
    due, target, model = Due(plan, 8), Target(), dict[int, tuple[datetime | None, str]]()
    now, forgetful = None, False
    for what, value in history:
        before, came = dict(target.rows), len(target.times)
        if what == "time":
            told = value * STEP_US
            now = told if now is None else max(now, told)
            for found in due.advance(now if forgetful else told):
                target.take(found)
            forgetful = False
            turned = [key for key, row in before.items() if row != target.rows[key]]
            assert sorted(target.times[came:]) == sorted(turned)
        elif what == "rows":
            rows: list[dict[str, Any]] = []
            for key, at, kind in value:
                moment = None if at is None else EPOCH + timedelta(microseconds=at * STEP_US)
                if kind == "d":
                    rows.append({"id": key, "__op": int(Op.DELETE)})
                    model.pop(key, None)
                elif kind == "keep" and key in model:
                    rows.append({"id": key, "text": f"{at}", "unset": "at"})
                    model[key] = (model[key][0], f"{at}")
                else:
                    rows.append({"id": key, "at": moment, "text": f"{at}"})
                    model[key] = (moment, f"{at}")
            target.take(due.apply(batch(plan.source, rows)))
        elif what == "truncate":
            for found in due.truncate():
                target.take(found)
            model.clear()
        else:
            kept = Due(plan, 8)
            for name, store in due.stores.items():
                kept.load(name, store.whole())
            due, forgetful = kept, kept.now_us != now
        assert target.rows.keys() == model.keys()
        for key, (moment, text) in model.items():
            known = due.now_us if forgetful else now
            passed = moment is not None and known is not None and moment <= EPOCH + timedelta(microseconds=known)
            if forgetful and key in before and before[key]["at"] == moment:
                assert target.rows[key]["is_due"] >= before[key]["is_due"]
                passed = passed or before[key]["is_due"]
            assert target.rows[key] == {"id": key, "at": moment, "text": text, "is_due": passed}, (what, key)


@settings(max_examples=150 * TIMES, deadline=None)
@given(
    st.one_of(
        st.tuples(st.sampled_from(ZONES), st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1))),
        st.tuples(st.sampled_from(CHANGES), st.integers(-90, 90)).map(
            lambda drawn: (drawn[0][0], drawn[0][1] + timedelta(minutes=drawn[1]))
        ),
    )
)
def test_moments_are_those_of_the_time_zone_database(drawn: tuple[str, datetime]) -> None:
    """A wall-clock time is the later of its two instants; one that clocks leave out counts on: so says zoneinfo."""
    zone, wall = drawn
    (found,) = moments(pa.array([wall], pa.timestamp("us")), zone).to_pylist()
    folds = [wall.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC) for fold in (0, 1)]
    assert EPOCH + timedelta(microseconds=found) == max(folds)


def test_a_date_is_due_when_its_next_day_begins_in_the_zone() -> None:
    """Due on the 3rd: the 4th begins in Istanbul at 21:00 UTC of the 3rd; in UTC three hours later; NULL never."""
    days = pa.array([date(2026, 3, 3), None], pa.date32())
    at = [EPOCH + timedelta(microseconds=us) if us else None for us in moments(days, "Europe/Istanbul").to_pylist()]
    assert at == [datetime(2026, 3, 3, 21, tzinfo=UTC), None]
    assert moments(days, "UTC").to_pylist()[0] - moments(days, "Europe/Istanbul").to_pylist()[0] == 180 * MINUTE_US
    assert all(us % BUCKET_US == 0 for zone in ZONES for us in moments(days.slice(0, 1), zone).to_pylist())


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31)])
def test_days_beyond_the_calendar_do_not_overflow(value: int) -> None:
    """An infinite date is due never, or always, whatever the zone."""
    column = pa.array([value], pa.int32()).view(pa.date32())
    for zone in ZONES:
        (found,) = moments(column, zone).to_pylist()
        assert (found > 250_000_000_000_000_000) == (value > 0) and (found < -62_000_000_000_000_000) == (value < 0)


def test_nanoseconds_have_passed_only_as_a_whole() -> None:
    """A moment of 1.5 us has passed at 2 us, not at 1 us; also below 1970."""
    assert moments(pa.array([1500, 2000, -1500], pa.timestamp("ns")), "UTC").to_pylist() == [2, 2, -1]


@pytest.mark.parametrize("turned_by", ["time", "row"])
def test_what_was_due_stays_due_through_a_restart(turned_by: str) -> None:
    """A change of another column, before the first time of the new start, does not turn the flag back."""
    due = Due(plan_due(table(), "at", "is_due", "UTC", "flagged"), 8)
    row = {"id": 1, "at": EPOCH + timedelta(microseconds=STEP_US), "text": "a"}
    list(due.advance(0 if turned_by == "time" else 2 * STEP_US))
    due.apply(batch(table(), [row]))
    list(due.advance(2 * STEP_US))
    again, target = Due(due.plan, 8), Target()
    for name, store in due.stores.items():
        again.load(name, store.whole())
    target.take(again.apply(batch(table(), [{**row, "text": "b"}])))
    assert target.rows[1] == {**row, "text": "b", "is_due": True}


def test_a_table_that_grows_keeps_its_rows() -> None:
    """Rows that wait over a new column come with it unset when they turn, and changes of the wider table are taken."""
    due, target = Due(plan_due(table(), "at", "is_due", "UTC", "flagged"), 8), Target()
    target.take(due.apply(batch(table(), [{"id": 1, "at": EPOCH, "text": "a"}])))
    wide = table("timestamptz", Column("more", parse_type("int64")))
    due.replan(wide)
    (found,) = due.advance(5)
    assert found.record.to_pylist()[0][UNSET] == bytes([0b1000])
    target.take(found)
    target.take(due.apply(batch(wide, [{"id": 2, "at": EPOCH, "text": "b", "more": 7}])))
    assert [(row["more"], row["is_due"]) for row in target.rows.values()] == [(None, True), (7, True)]


def test_many_rows_of_one_day_come_in_batches_of_a_bounded_size() -> None:
    """70,000 rows due on one day turn in three batches, and a second time brings none of them again."""
    due = Due(plan_due(table("date"), "at", "is_due", "UTC", "flagged"), 8)
    schema = arrow_schema(table("date"))
    count = 70_000
    columns = [pa.array(range(count)), pa.repeat(pa.scalar(date(1970, 1, 1)), count), pa.nulls(count, pa.utf8())]
    columns += [pa.repeat(pa.scalar(1, pa.int8()), count), pa.repeat(pa.scalar(bytes(32), pa.binary(32)), count)]
    record = pa.RecordBatch.from_arrays([*columns, pa.nulls(count, schema.field("__source_ts").type)], schema=schema)
    due.apply(ChangeBatch(table("date"), record))
    assert [found.row_count for found in due.advance(86_400_000_000 - 1)] == []
    assert [found.row_count for found in due.advance(86_400_000_000)] == [32768, 32768, 4464]
    assert [found.row_count for found in due.advance(10**15)] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"at": "when"}, "at: expected a column of rows, one of ['id', 'at', 'text'], found 'when'"),
        ({"at": "text"}, "at: expected a column of type date, timestamp, timestamp_ns, timestamptz, found text string"),
        ({"flag": "text"}, "flag: expected a name that the result does not have yet, found 'text'"),
        ({"zone": "Europe/Istambul"}, "zone: expected an IANA time zone such as Europe/Istanbul, found"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, str], message: str) -> None:
    """The error names the step, what was expected and what was found."""
    with pytest.raises(ConfigurationError) as caught:
        plan_due(table(), **{"at": "at", "flag": "is_due", "zone": "UTC", "name": "flagged", **change})
    assert str(caught.value).startswith("due flagged: ") and message in str(caught.value)


def test_a_table_without_a_key_is_refused() -> None:
    """Nothing would say which row turns."""
    with pytest.raises(ConfigurationError, match="expected a key, found none"):
        plan_due(Table("log", table().columns), "at", "is_due", "UTC", "flagged")
