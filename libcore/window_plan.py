"""What a window step is, worked out and checked before a row flows: which rows meet, what is kept, what comes out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import pyarrow as pa

from libcore.change import OP, POSITION, SOURCE_TS, UNSET
from libcore.errors import ConfigurationError
from libcore.schema import Column, ColumnType, Table, parse_type

KINDS = ("tumbling", "sliding", "session", "all")
START, TIME, SIGN, GROUP = "__start", "__time", "__sign", "__group"
_CONTROL = (OP, POSITION, SOURCE_TS, UNSET, START, TIME, SIGN, GROUP)
_CALL = re.compile(r"\s*(\w+)\s*\(\s*(distinct\s+)?(\*|\w+)\s*(?:,\s*(\d+)\s*)?\)\s*", re.I)
_TIMES = {"timestamp": "timestamp", "timestamptz": "timestamptz", "timestamp_ns": "timestamp", "date": "timestamp"}
_INTEGERS = ("int16", "int32", "int64")
_FLOATS = ("float32", "float64")
# Types whose order and equality in Arrow are the value's own: not so for texts of numbers, documents or intervals.
_COMPARED = (*_INTEGERS, *_FLOATS, "decimal", "date", "time", "time_ns", "timestamp", "timestamp_ns", "timestamptz")
_ORDERED = (*_COMPARED, "interval_us", "string", "uuid", "bytes")
_DISTINCT = (*_ORDERED, "bool")
_WINDOWS_A_ROW_MAX = 1000
_DIGITS_SUMMED_MAX = 57  # 2^63 rows of 57 digits stay below 10^76
_COUNT = ColumnType("int64")


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One result column. `column` is None for count(*); `scale` only for avg of exact numbers."""

    name: str
    function: str  # sum count avg min max distinct
    column: str | None
    type: ColumnType
    scale: int = 0


@dataclass(frozen=True)
class WindowPlan:
    """A window step; made by plan_window, which checks it.

    source, result: the table that comes in, and what goes out: by, window_start, window_end, aggregates (kind "all":
    without the two). Its key is by and window_start; a single total has none, and its old row is taken back. late: the
    keyless table of late rows. by: grouping columns. time: the event time's column. size_us, slide_us, gap_us: 0 where
    the kind has none. allowed_lateness_us: None for no bound.
    """

    source: Table
    result: Table
    late: Table
    by: tuple[str, ...]
    time: str | None
    kind: str
    size_us: int
    slide_us: int
    gap_us: int
    aggregates: tuple[Aggregate, ...]
    emit: str
    allowed_lateness_us: int | None

    @property
    def name(self) -> str:
        """The result's name."""
        return self.result.name

    @property
    def final(self) -> bool:
        """Whether a window comes once, when it is closed."""
        return self.emit == "final"

    @property
    def bounded(self) -> bool:
        """Whether windows are closed and purged: lateness has a bound."""
        return self.allowed_lateness_us is not None

    @property
    def timed(self) -> bool:
        """Whether rows belong to windows of time at all."""
        return self.kind != "all"

    @cached_property
    def group(self) -> tuple[str, ...]:
        """The columns that name a group inside, and decide its slot; a constant where `by` is empty."""
        return self.by or (GROUP,)

    @cached_property
    def group_fields(self) -> list[pa.Field]:
        """The same as Arrow fields."""
        if not self.by:
            return [pa.field(GROUP, pa.int8())]
        return [pa.field(name, self.source.column(name).type.arrow) for name in self.by]

    @cached_property
    def arguments(self) -> tuple[str, ...]:
        """The columns that aggregates read, each once."""
        return tuple(dict.fromkeys(a.column for a in self.aggregates if a.column is not None))

    @cached_property
    def carried(self) -> tuple[str, ...]:
        """What Contributions keeps of a row: its key, the grouping columns, the time, the arguments; at least one."""
        time = () if self.time is None else (self.time,)
        # count(*) of a keyless table reads no column, and a batch without columns does not know how long it is
        return tuple(dict.fromkeys([*self.source.key, *self.by, *time, *self.arguments])) or (
            self.source.columns[0].name,
        )

    @cached_property
    def travelling(self) -> tuple[str, ...]:
        """Which of them go to Aggregates; the key too where a row may be found late there."""
        plain = {*self.by, *self.arguments, self.time}
        return tuple(name for name in self.carried if self.bounded or name in plain)

    @cached_property
    def travelling_schema(self) -> pa.Schema:
        """The record from Contributions to Aggregates: travelling columns, perhaps __group, __sign, __source_ts."""
        fields = [pa.field(name, self.source.column(name).type.arrow) for name in self.travelling]
        if not self.by:
            fields += self.group_fields
        return pa.schema([*fields, pa.field(SIGN, pa.int8(), nullable=False), pa.field(SOURCE_TS, _stamp())])

    @cached_property
    def pane_us(self) -> int:
        """The width of the stretches of time in which rows are summed first, in microseconds."""
        if self.kind == "session":
            return self.gap_us
        return gcd(self.size_us, self.slide_us) if self.kind == "sliding" else self.size_us

    def summed(self) -> tuple[str, ...]:
        """Columns whose sum is kept."""
        return self._with("sum", "avg")

    def counted(self) -> tuple[str, ...]:
        """Columns whose values other than NULL are counted."""
        return self._with("sum", "avg", "count")

    def valued(self) -> tuple[str, ...]:
        """Columns whose values are kept with their counts."""
        return self._with("min", "max", "distinct")

    def _with(self, *functions: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(a.column for a in self.aggregates if a.function in functions and a.column))


def _stamp() -> pa.DataType:
    return pa.timestamp("us", tz="UTC")


def sum_type(source: ColumnType) -> pa.DataType:
    """The type in which a column is summed: wide enough that 2^63 rows cannot overflow it."""
    if source.name in _FLOATS:
        return pa.float64()
    if source.name == "decimal":
        wide = source.precision > 19
        return pa.decimal256(76, source.scale) if wide else pa.decimal128(38, source.scale)
    return pa.decimal128(38, 0)


def plan_window(
    table: Table,
    by: Sequence[str],
    time: str | None,
    kind: str,
    aggregates: Mapping[str, str],
    *,
    size_us: int = 0,
    slide_us: int = 0,
    gap_us: int = 0,
    emit: str = "changes",
    allowed_lateness_us: int | None = None,
    name: str,
) -> WindowPlan:
    """Check a window step and work out its result.

    Args:
        table: rows to aggregate; a keyless one counts its copies.
        by: grouping columns; NULL is a group of its own. Empty: all rows are one group.
        time: event time: a timestamp, timestamptz, timestamp_ns or date column; None for kind "all".
        kind: "tumbling" (size), "sliding" (size, slide), "session" (gap), "all" (one result a group).
        aggregates: result column -> "sum(c)", "count(*)", "count(c)", "count(distinct c)", "avg(c)", "avg(c, scale)",
            "min(c)", "max(c)".
        size_us, slide_us, gap_us: microseconds; windows begin at multiples of slide (or size) since 1970. A session
            is rows each less than gap apart from the next, and ends gap after its last.
        emit: "changes": results are corrected as rows change or come late; "final": each window once, when closed.
        allowed_lateness_us: how long after its end a window takes rows; None: for ever ("final": 0).
        name: the result's name.
    Raises: ConfigurationError that says what was expected and found.
    """
    where = f"window {name}"
    _check_kind(where, table, by, time, kind, emit, size_us, slide_us, gap_us)
    if emit == "final" and allowed_lateness_us is None:
        allowed_lateness_us = 0
    if allowed_lateness_us is not None and (allowed_lateness_us < 0 or kind == "all"):
        raise ConfigurationError(
            f"{where}: allowed_lateness: expected 0 or more, of a kind with time, found {allowed_lateness_us} us "
            f"with kind {kind!r}"
        )
    if not aggregates:
        raise ConfigurationError(f"{where}: aggregate: expected at least one, found none")
    found = tuple(_aggregate(where, table, column, text) for column, text in aggregates.items())
    stamp = ColumnType(_TIMES[table.column(time).type.name]) if time is not None else None
    size = {"tumbling": size_us, "sliding": size_us}.get(kind, 0)
    return WindowPlan(
        table,
        _result(where, table, by, stamp, found, name),
        _late(table, by, time, found, name),
        tuple(by),
        time,
        kind,
        size,
        slide_us if kind == "sliding" else size,
        gap_us if kind == "session" else 0,
        found,
        emit,
        allowed_lateness_us,
    )


def _check_kind(
    where: str, table: Table, by: Sequence[str], time: str | None, kind: str, emit: str, size: int, slide: int, gap: int
) -> None:
    if kind not in KINDS:
        raise ConfigurationError(f"{where}: kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    if emit not in ("changes", "final") or (emit == "final" and kind == "all"):
        raise ConfigurationError(f'{where}: emit: expected "changes", or "final" with windows of time, found {emit!r}')
    names = [column.name for column in table.columns]
    if unknown := [column for column in (*by, *([] if time is None else [time])) if column not in names]:
        raise ConfigurationError(f"{where}: expected columns of {table.name}, {names}, found {unknown[0]!r}")
    if len(set(by)) != len(by) or time in by:
        raise ConfigurationError(f"{where}: by: expected different columns without the time, found {list(by)}")
    if kind == "all":
        if time is not None:
            raise ConfigurationError(f"{where}: kind all: expected no time, found {time!r}")
        return
    if time is None or table.column(time).type.name not in _TIMES:
        found = None if time is None else f"{time} {table.column(time).type}"
        raise ConfigurationError(f"{where}: time: expected a column of type {', '.join(_TIMES)}, found {found}")
    needed = {"tumbling": [("size", size)], "sliding": [("size", size), ("slide", slide)], "session": [("gap", gap)]}
    for setting, value in needed[kind]:
        if not 0 < value < 2**53:
            raise ConfigurationError(f"{where}: {setting}: expected a duration above 0, found {value} us")
    if kind == "sliding" and not (slide <= size <= _WINDOWS_A_ROW_MAX * slide):
        raise ConfigurationError(
            f"{where}: slide: expected at most the size, and at least size / {_WINDOWS_A_ROW_MAX}, "
            f"found size {size} us and slide {slide} us"
        )


def _aggregate(where: str, table: Table, name: str, text: str) -> Aggregate:
    match = _CALL.fullmatch(text)
    function = match[1].lower() if match else ""
    if match is None or function not in ("sum", "count", "avg", "min", "max"):
        raise ConfigurationError(
            f"{where}: aggregate {name}: expected sum(c), count(*), count(c), count(distinct c), avg(c), "
            f"avg(c, scale), min(c) or max(c), found {text!r}"
        )
    distinct, column, scale = bool(match[2]), match[3], match[4]
    bare = (distinct or column == "*") and (function != "count" or (distinct and column == "*"))
    if bare or (scale is not None and function != "avg"):
        raise ConfigurationError(f"{where}: aggregate {name}: distinct and * go with count, a scale with avg: {text!r}")
    if column == "*":
        return Aggregate(name, "count", None, _COUNT)
    names = [c.name for c in table.columns]
    if column not in names:
        raise ConfigurationError(f"{where}: aggregate {name}: expected a column of {names}, found {column!r}")
    source = table.column(column).type
    if function == "count" and not distinct:
        return Aggregate(name, "count", column, _COUNT)
    _check_type(where, name, "distinct" if distinct else function, column, source)
    if distinct:
        return Aggregate(name, "distinct", column, _COUNT)
    if function in ("min", "max"):
        return Aggregate(name, function, column, source)
    return _exact(where, name, function, column, source, None if scale is None else int(scale))


def _check_type(where: str, name: str, function: str, column: str, source: ColumnType) -> None:
    wanted = {"distinct": _DISTINCT, "min": _ORDERED, "max": _ORDERED}.get(function, (*_INTEGERS, *_FLOATS, "decimal"))
    too_wide = function in ("sum", "avg") and source.precision > _DIGITS_SUMMED_MAX
    if source.name not in wanted or too_wide:
        raise ConfigurationError(
            f"{where}: aggregate {name}: {function} of {column}: expected one of {', '.join(wanted)}"
            f"{f' of at most {_DIGITS_SUMMED_MAX} digits' if too_wide else ''}, found {source}"
        )


def _exact(where: str, name: str, function: str, column: str, source: ColumnType, scale: int | None) -> Aggregate:
    """sum and avg: decimals with all their digits, floats only where the column is one."""
    if source.name in _FLOATS:
        if scale is not None:
            raise ConfigurationError(f"{where}: aggregate {name}: expected no scale for avg of {source}, found {scale}")
        return Aggregate(name, function, column, ColumnType("float64"))
    precision = 76 if source.precision > 38 else 38
    if function == "sum":
        return Aggregate(name, "sum", column, ColumnType("decimal", precision, source.scale))
    scale = source.scale + 4 if scale is None else scale
    least, most = max(source.scale - 18, 0), min(source.scale + 18, precision)
    if not least <= scale <= most:
        raise ConfigurationError(f"{where}: aggregate {name}: expected a scale of {least} to {most}, found {scale}")
    return Aggregate(name, "avg", column, ColumnType("decimal", precision, scale), scale)


def _result(
    where: str,
    table: Table,
    by: Sequence[str],
    stamp: ColumnType | None,
    aggregates: Sequence[Aggregate],
    name: str,
) -> Table:
    columns = [table.column(column) for column in by]
    if stamp is not None:
        columns += [Column("window_start", stamp, False), Column("window_end", stamp, False)]
    columns += [Column(a.name, a.type, a.function not in ("count", "distinct")) for a in aggregates]
    names = [column.name for column in columns]
    taken = [column for column in names if column in _CONTROL or names.count(column) > 1]
    if taken:
        raise ConfigurationError(f"{where}: expected result columns of different names, found {taken[0]!r} again")
    return Table(name, tuple(columns), (*by, *(() if stamp is None else ("window_start",))))


def _late(table: Table, by: Sequence[str], time: str | None, aggregates: Sequence[Aggregate], name: str) -> Table:
    names = dict.fromkeys([*table.key, *by, *([] if time is None else [time]), *(a.column for a in aggregates)])
    columns = [Column(column, table.column(column).type) for column in names if column is not None]
    return Table(
        f"{name}_late",
        (*columns, Column("late_change", parse_type("string")), Column("late_watermark", parse_type("timestamptz"))),
    )


__all__ = ["Aggregate", "WindowPlan", "plan_window", "sum_type"]
