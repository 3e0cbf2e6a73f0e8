"""SQL Server's types, change rows and order, without a server: values in, columns out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyodbc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.base.database import SourceTable
from connectors.formats.binding import TopicBinding
from connectors.sqlserver import sql
from connectors.sqlserver.batches import change_items, is_set, snapshot_batch
from connectors.sqlserver.catalog import CatalogTable, Instance, Wanted, wanted
from connectors.sqlserver.merge import ChangeTable, steps
from connectors.sqlserver.session import QueryTooLong, failed
from connectors.sqlserver.state import Read, State, border, is_border, lsn_behind, unpacked
from connectors.sqlserver.types import convert, plain, reading
from libcore.change import POSITION, SOURCE_TS, UNSET, ChangeBatch, Op
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import ConfigurationError, FatalError, TransientError
from libcore.position import split
from libcore.schema import Column, Table, parse_type

MAX = -1
COLUMNS = (
    ("id", "int", 4, 10, 0, False),
    ("name", "nvarchar", 80, 0, 0, True),
    ("body", "nvarchar", MAX, 0, 0, True),
    ("price", "decimal", 9, 18, 4, True),
)


def described(key: tuple[str, ...] = ("id",)) -> CatalogTable:
    """The table dbo.items as the catalogue has it."""
    readings = {name: reading(name, kind, length, *digits) for name, kind, length, *digits, _ in COLUMNS}
    columns = tuple(Column(name, readings[name].type, nullable) for name, *_, nullable in COLUMNS)
    definitions = {name: definition for name, *definition in COLUMNS}
    return CatalogTable(SourceTable("dbo.items", Table("dbo.items", columns, key)), readings, key, definitions)


def items() -> Wanted:
    """dbo.items, all of its columns wanted."""
    return wanted(described(), described().source.table, TopicBinding("dbo.items"))


ORDINALS = {name: number for number, (name, *_) in enumerate(COLUMNS, 1)}


def lsn(number: int) -> bytes:
    """A position in the log."""
    return number.to_bytes(10, "big")


def change(at: int, operation: int, values: Sequence[Any], *, mask: bytes = b"\x0f", sequence: int = 0) -> Any:
    """A row of dbo.items' change table."""
    return (lsn(at), 1, lsn(sequence or at), operation, mask, *values)


def made(rows: Sequence[Any], ordinals: dict[str, int] | None = None) -> list[Any]:
    """Items of change rows, committed at 1 s a position."""
    times = {row[0]: int.from_bytes(row[0], "big") * 1_000_000 for row in rows}
    return change_items(items(), ordinals or ORDINALS, rows, times, first=0, flow="erp").items


class TestTypes:
    """Each type holds every value of its own exactly, or refuses it by name."""

    @pytest.mark.parametrize(
        ("kind", "sizes", "value", "type_", "expected"),
        [
            ("tinyint", (1, 3, 0), 255, "int16", 255),
            ("bigint", (8, 19, 0), -(2**63), "int64", -(2**63)),
            ("bit", (1, 1, 0), True, "bool", True),
            ("decimal", (17, 38, 10), Decimal("-1234567890123456789012345678.0123456789"), "decimal(38,10)", None),
            ("money", (8, 19, 4), Decimal("922337203685477.5807"), "decimal(19,4)", None),
            ("smallmoney", (4, 10, 4), Decimal("-214748.3648"), "decimal(10,4)", None),
            ("real", (4, 24, 0), 0.5, "float32", 0.5),
            ("date", (3, 10, 0), date(1, 1, 1), "date", date(1, 1, 1)),
            ("datetime", (8, 23, 3), datetime(1753, 1, 1, 0, 0, 0, 3000), "timestamp", None),
            ("datetime2", (8, 27, 6), datetime(9999, 12, 31, 23, 59, 59, 999999), "timestamp", None),
            ("datetime2", (8, 27, 7), "9999-12-31 23:59:59.9999999", "string", None),
            ("datetimeoffset", (10, 34, 7), "0001-01-01 00:00:00.0000001 +14:00", "string", None),
            ("uniqueidentifier", (16, 0, 0), "6F9619FF-8B86-D011-B42D-00C04FC964FF", "uuid", "lower"),
            ("varbinary", (MAX, 0, 0), b"\x00\xff", "bytes", None),
            ("rowversion", (8, 0, 0), b"\0\0\0\0\0\0\x07\xd1", "bytes", None),
            ("hierarchyid", (892, 0, 0), "/1/2.1/", "string", None),
            ("xml", (MAX, 0, 0), "<a>ü</a>", "xml", None),
        ],
    )
    def test_a_value_passes_as_it_is(
        self, kind: str, sizes: tuple[int, int, int], value: Any, type_: str, expected: Any
    ) -> None:
        """The described type is exact, and the driver's value comes out of the column unchanged."""
        one = reading("c", kind, *sizes)
        array, bad = convert([value, None], one, Column("c", one.type))
        wanted_value = value if expected is None else value.lower() if expected == "lower" else expected
        assert (str(one.type), bad, array.to_pylist()) == (type_, {}, [wanted_value, None])

    @pytest.mark.parametrize(
        ("kind", "scale", "text", "type_", "expected"),
        [
            ("datetime2", 7, "2025-12-31 23:59:59.9999999", "timestamp_ns", 1767225599_999999900),
            ("datetime2", 7, "2025-12-31 23:59:59.9999990", "timestamp", 1767225599_999999),
            ("datetime2", 7, "2025-12-31 23:59:59.9999999", "timestamp", None),
            ("datetime2", 7, "9999-12-31 23:59:59.9999999", "timestamp_ns", None),
            ("datetimeoffset", 6, "2026-01-01 01:00:00.123456 +05:30", "timestamptz", 1767209400_123456),
            ("datetimeoffset", 7, "2026-01-01 01:00:00.1234561 +05:30", "timestamptz", None),
            ("time", 7, "23:59:59.9999999", "time_ns", 86399_999999900),
            ("time", 3, "23:59:59.999", "time", 86399_999000),
        ],
    )
    def test_a_moment_is_never_rounded(
        self, kind: str, scale: int, text: str, type_: str, expected: int | None
    ) -> None:
        """100 ns are kept where the type holds them; where it does not, the row is refused, not rounded."""
        one = reading("c", kind, 8, 27, scale)
        array, bad = convert([text], one, Column("c", parse_type(type_)))
        found = array.view("int64").to_pylist()[0]
        assert (found, list(bad)) == (expected, [] if expected is not None else [0])

    def test_a_type_without_an_exact_form_is_refused_by_name(self) -> None:
        """sql_variant is described with a note, and refused by its name where the pipeline wants it."""
        found = described()
        variant = reading("extra", "sql_variant", 8016, 0, 0)
        table = Table("dbo.items", (*found.source.table.columns, Column("extra", variant.type)), ("id",))
        with pytest.raises(ConfigurationError, match=r"column extra: type sql_variant has no exact form"):
            wanted(
                CatalogTable(found.source, {**found.readings, "extra": variant}, ("id",)),
                table,
                TopicBinding("dbo.items"),
            )

    @pytest.mark.parametrize(
        ("kind", "value", "type_", "expected"),
        [
            ("bigint", 12, "decimal(15,3)", Decimal("12.000")),
            ("bigint", 10**15, "decimal(15,3)", None),
            ("bigint", 2**40, "int32", None),
            ("int", 7, "string", "7"),
            ("datetime", datetime(2026, 1, 2), "date", date(2026, 1, 2)),
            ("datetime", datetime(2026, 1, 2, 0, 0, 1), "date", None),
            ("decimal", Decimal("1.2500"), "string", "1.2500"),
        ],
    )
    def test_a_declared_type_holds_the_value_or_refuses_it(
        self, kind: str, value: Any, type_: str, expected: Any
    ) -> None:
        """The pipeline file may declare another type: each value is exact in it, or its row is refused."""
        one = reading("c", kind, 8, 18, 4)
        array, bad = convert([value], one, Column("c", parse_type(type_)))
        assert (array.to_pylist()[0], list(bad)) == (expected, [] if expected is not None else [0])

    def test_a_declared_type_that_makes_no_sense_is_refused_at_the_start(self) -> None:
        """An nvarchar declared as float64 is a fault of the file."""
        columns = (Column("id", parse_type("int32")), Column("name", parse_type("float64")))
        with pytest.raises(ConfigurationError, match="column name: expected string, or a type that holds it"):
            wanted(described(), Table("dbo.items", columns, ("id",)), TopicBinding("dbo.items"))


class TestStatements:
    """What is sent is plain T-SQL over ranges of an index."""

    def test_a_chunk_goes_on_behind_a_key_of_two_columns(self) -> None:
        """Equality before each last part, and parameters of the columns' own types."""
        key = [reading("a", "int", 4, 10, 0).selected, reading("b", "varchar", 10, 0, 0).selected]
        text = sql.chunk("dbo.it]ems", key, key, 5, behind=True)
        assert text == (
            "SELECT TOP (5) [a], [b] FROM [dbo].[it]]ems] WHERE ([a] > CONVERT(int, ?)) OR "
            "([a] = CONVERT(int, ?) AND [b] > CONVERT(varchar(10), ?)) ORDER BY [a], [b]"
        )
        assert sql.behind_key([1, "x"]) == [1, 1, "x"]

    def test_a_keys_value_is_kept_as_plain_text(self) -> None:
        """A datetime key has at most three digits, as SQL Server reads them; decimals keep their scale."""
        values = [datetime(2026, 1, 2, 3, 4, 5, 3000), datetime(2026, 1, 2, 3, 4, 5, 123456), Decimal("1.50"), b"\1"]
        assert [plain(value) for value in values] == [
            "2026-01-02 03:04:05.003",
            "2026-01-02 03:04:05.123456",
            "1.50",
            b"\1",
        ]


class TestChangeRows:
    """Rows of a change table as an upsert log by key."""

    def test_inserts_updates_deletes_in_order(self) -> None:
        """Each row has its place in the log and its commit's time; a delete has its key only."""
        rows = [
            change(5, 2, (1, "a", "x", Decimal("1.5000"))),
            change(6, 3, (1, "a", None, Decimal("1.5000"))),
            change(6, 4, (1, "b", "x", Decimal("1.5000"))),
            change(7, 1, (1, "b", "x", Decimal("1.5000"))),
        ]
        (batch,) = made(rows)
        found = batch.record.to_pylist()
        assert [row["__op"] for row in found] == [Op.INSERT, Op.UPSERT, Op.DELETE]
        assert [row["name"] for row in found] == ["a", "b", None]
        assert [split(row[POSITION])[1] for row in found] == [5, 6, 7]
        assert [row[POSITION] for row in found] == sorted(row[POSITION] for row in found)
        assert [row[SOURCE_TS].timestamp() for row in found] == [5, 6, 7]

    def test_unset_is_not_null(self) -> None:
        """An unchanged large value is left as it is; one that was set to NULL is NULL, by the update mask."""
        unchanged, to_null = b"\x02", b"\x04"
        rows = [
            change(5, 3, (1, "a", None, None), mask=unchanged),
            change(5, 4, (1, "b", None, None), mask=unchanged),
            change(6, 3, (1, "b", None, None), mask=to_null),
            change(6, 4, (1, "b", None, None), mask=to_null),
            change(7, 2, (2, "c", None, None)),
        ]
        (batch,) = made(rows)
        assert [row[UNSET] for row in batch.record.to_pylist()] == [b"\x04", b"\x00", b"\x00"]

    def test_a_column_that_is_not_captured_is_unset_in_all_rows(self) -> None:
        """An older capture instance lacks a column that the table has: state and target keep theirs."""
        ordinals = {name: number for name, number in ORDINALS.items() if name != "price"}
        (batch,) = made([change(5, 2, (1, "a", "x"))], ordinals)
        assert batch.record.to_pylist()[0][UNSET] == b"\x08"

    def test_a_key_that_moves_leaves_its_old_place(self) -> None:
        """Operations 3 and 4 with different keys are a delete of the old one and an upsert of the new one."""
        rows = [change(5, 3, (1, "a", None, None)), change(5, 4, (9, "a", "x", None))]
        (batch,) = made(rows)
        found = batch.record.to_pylist()
        assert [(row["__op"], row["id"]) for row in found] == [(Op.DELETE, 1), (Op.UPSERT, 9)]

    def test_half_a_pair_stops_the_flow(self) -> None:
        """A row before an update without the row behind it is no order that can be trusted."""
        with pytest.raises(FatalError, match="operation 4 behind each operation 3"):
            made([change(5, 3, (1, "a", None, None)), change(6, 2, (2, "b", None, None))])

    def test_a_row_that_does_not_fit_is_a_dead_letter_and_its_neighbours_go_on(self) -> None:
        """The letter names table, column, what was expected and found, and holds the row."""
        good, bad = (1, "a", "x", Decimal("1.5")), (2, "b", "x", Decimal("1.23456"))
        batch, letters = made([change(5, 2, good), change(5, 2, bad, sequence=6)])
        assert (len(batch), letters.table) == (1, DEAD_LETTERS)
        (letter,) = letters.record.to_pylist()
        assert letter["key_text"] == '{"id": 2}'
        assert "table dbo.items: column price: expected decimal(18,4), found Decimal('1.23456')" in letter["error"]

    @given(st.integers(1, 40), st.binary(min_size=1, max_size=5))
    def test_the_mask_counts_from_its_last_byte(self, ordinal: int, mask: bytes) -> None:
        """Column i is bit i - 1 of the mask as one big number; what lies before the mask is not set."""
        assert is_set(mask, ordinal) == bool(int.from_bytes(mask, "big") >> (ordinal - 1) & 1)

    def test_snapshot_rows_say_so(self) -> None:
        """Rows of a snapshot are inserts with commit 0; a NULL where none may be is a dead letter."""
        result = snapshot_batch(
            items(), [(1, None), ("a", "b"), (None, None), (None, None)], Op.INSERT, commit=0, first=0, flow="erp"
        )
        batch, letters = result.items
        assert isinstance(batch, ChangeBatch) and isinstance(letters, ChangeBatch)
        (row,) = batch.record.to_pylist()
        assert (row["__op"], split(row[POSITION])[1]) == (Op.INSERT, 0)
        assert "column id: expected a value, found NULL" in letters.record.to_pylist()[0]["error"]


class Log:
    """Change tables in memory, which answer the three conditions that a reader asks by."""

    def __init__(self, tables: dict[str, list[Any]]) -> None:
        self._tables = {name: sorted(rows, key=lambda row: row[:4]) for name, rows in tables.items()}

    def rows(
        self, statement: str, values: Sequence[Any], count: int, large: Sequence[int] = (), bytes_max: int = 0
    ) -> tuple[list[Any], bool]:
        """See Session.rows."""
        (name,) = [name for name in self._tables if f"[{name}_CT]" in statement]
        if sql.AFTER_LSN in statement:
            found = [row for row in self._tables[name] if values[0] < row[0] <= values[1]]
        elif sql.AFTER_SEQUENCE in statement:
            found = [row for row in self._tables[name] if list(row[:2]) == values[:2] and row[2] > values[2]]
        else:
            assert sql.AFTER_COMMAND in statement
            found = [row for row in self._tables[name] if row[0] == values[0] and row[1] > values[1]]
        return found[:count], len(found) < count


ROW = st.tuples(st.integers(1, 12), st.integers(1, 2), st.integers(1, 4))


class TestMerge:
    """Several change tables as one log."""

    @given(
        st.lists(st.lists(ROW, max_size=25), min_size=1, max_size=3),
        st.integers(1, 6), st.integers(1, 9), st.integers(0, 12), st.integers(0, 12),
    )  # fmt: skip
    def test_every_row_comes_once_and_in_order(
        self, tables: list[list[tuple[int, int, int]]], count: int, rows_max: int, begin: int, length: int
    ) -> None:
        """Whatever the sizes: rows of the range once, in commit order over all tables, from each place on."""
        names = [f"t{number}" for number in range(len(tables))]
        logs = {
            name: [(lsn(at), command, lsn(sequence), 2, b"\xff") for at, command, sequence in rows]
            for name, rows in zip(names, tables, strict=True)
        }
        end = begin + length
        log = Log(logs)
        table = Wanted(Table("t", (), ()), (), ())

        def read(name: str, place: Any) -> ChangeTable:
            instance = Instance(name, name, lsn(0), {})
            renamed = Wanted(Table(name, (), ()), table.readings, ())
            return ChangeTable(log, renamed, instance, place, lsn(end), count)  # type: ignore[arg-type]

        place: Any = border(lsn(begin))
        found: list[Any] = []
        while place != border(lsn(end)):
            step = next(steps([read(name, place) for name in names], lsn(end), rows_max))  # as behind a crash each time
            together = sorted(row[:3] for rows in step.rows.values() for row in rows)
            assert all(place < row <= step.place for row in together) and place < step.place
            found += together
            place = step.place
        assert found == sorted(row[:3] for rows in logs.values() for row in rows if lsn(begin) < row[0] <= lsn(end))

    def test_a_step_ends_between_transactions_where_it_can(self) -> None:
        """Three transactions of two rows, five rows a query: what may be half a transaction waits for the rest."""
        rows = [(lsn(at), 1, lsn(number), 2, b"\xff") for at in (1, 2, 3) for number in (1, 2)]
        instance = Instance("t", "t", lsn(0), {})
        log: Any = Log({"t": rows})
        reader = ChangeTable(log, Wanted(Table("t", (), ()), (), ()), instance, border(lsn(0)), lsn(3), 5)
        found = [(len(step.rows.get("t", [])), is_border(step.place)) for step in steps([reader], lsn(3), 5)]
        assert found == [(2, True), (4, True)]


@pytest.mark.parametrize(
    ("state", "words", "kind", "helps"),
    [
        ("08S01", "[Microsoft][ODBC Driver 18 for SQL Server]TCP Provider: Error code 0x68 (104) (SQLExecDirectW)",
         TransientError, ""),
        ("HYT00", "[Microsoft][ODBC Driver 18 for SQL Server]Login timeout expired (0) (SQLDriverConnect)",
         TransientError, ""),
        ("HYT00", "[Microsoft][ODBC Driver 18 for SQL Server]Query timeout expired (0) (SQLExecDirectW)",
         QueryTooLong, ""),
        ("HY000", "[FreeTDS][SQL Server]Unknown error (0) (SQLExecDirectW)", TransientError, ""),
        ("40001", "[FreeTDS][SQL Server]Transaction was deadlocked (1205) (SQLExecDirectW)", TransientError, ""),
        ("42000", "[FreeTDS][SQL Server]Database is in transition (952); [42000] not prepared. (927) (SQLFetch)",
         TransientError, ""),
        ("42S02", "[x][SQL Server]Invalid object name 'cdc.change_tables'. (208) (SQLExecDirectW); [42000] [x][SQL "
         "Server]Statement(s) could not be prepared. (8180)", ConfigurationError, "sp_cdc_enable_db"),
        ("42000", "[x][SQL Server]The SELECT permission was denied on 'items'. (229) (SQLExecDirectW)",
         ConfigurationError, "grants.md"),
        ("28000", "[x][SQL Server]Login failed for user 'me'. (18456) (SQLDriverConnect)",
         ConfigurationError, "grants"),
        ("IM002", "[unixODBC][Driver Manager]Data source name not found (0) (SQLDriverConnect)", ConfigurationError,
         "DRIVER names"),
        ("42000", "[x][SQL Server]Incorrect syntax near 'x'. (102) (SQLExecDirectW)", FatalError, ""),
    ],
)  # fmt: skip
def test_an_error_of_the_driver_says_what_to_do(state: str, words: str, kind: type[Exception], helps: str) -> None:
    """What passes by itself is tried again, what a person must grant or set is named, anything else stops the flow."""
    ours = failed(pyodbc.Error(state, f"[{state}] {words}"), "read")
    assert type(ours) is kind
    assert helps in str(ours)


def test_the_state_is_kept_and_read_again() -> None:
    """What the recovery store keeps comes back; another version, or another mode, refuses the start."""
    state = State("cdc", border(lsn(7)), (Read("dbo.items", lsn(5), ("id",), (3, "x"), "emptied"),), 9)
    assert unpacked(state.packed(), "cdc") == state
    assert unpacked(State().packed(), "cdc") == State("cdc")
    with pytest.raises(ConfigurationError, match='expected "cdc", by which it was read so far'):
        unpacked(state.packed(), "change_tracking")
    with pytest.raises(ConfigurationError, match="recovery state of version 2, found 1"):
        unpacked((1,), "cdc")


@given(st.integers(1, 2**80 - 2))
def test_the_next_lsn_and_the_one_before(number: int) -> None:
    """LSNs are counted as numbers of ten bytes."""
    assert lsn_behind(lsn_behind(lsn(number)), -1) == lsn(number)
