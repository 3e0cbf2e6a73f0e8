"""LOB values put together from LogMiner's rows where all of their pieces are there; else it says which rows lack them.

A value is known where its writes begin at its first character, directly behind the statement of its row that empties
it, in a transaction that took nothing back: LogMiner does not always say of a LOB's rows that they were undone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from connectors.oracle.catalog import WantedTable
from connectors.oracle.large import names_its_row, rows_told, values_of
from connectors.oracle.sql import literal, quote
from connectors.oracle.transactions import Committed
from connectors.oracle.undone import LOB_PIECES
from libcore.change import UNSET
from libcore.redo import Redo, parse_redo

LOCATOR, XML_BEGIN, STRING_BEGIN = 9, 68, 91
_WRITE, _TRIM = 10, 11
LARGE = pa.array([LOCATOR, *LOB_PIECES.to_pylist(), XML_BEGIN, STRING_BEGIN], pa.int16())
_BEGINS = (LOCATOR, XML_BEGIN, STRING_BEGIN)
_STATEMENTS = (1, 3)  # INSERT, UPDATE
_COLUMN = re.compile(r'\bselect\s+"([^"]*)"\s+into\b')
#  buf_c := 'it''s'; \n  dbms_lob.write(loc_c, 4, 1, buf_c);\nEND;          buf_b := HEXTORAW('0aff'); ...
_WRITTEN = re.compile(
    r"\s*buf_\w+\s*:=\s*(?:HEXTORAW\('([0-9A-Fa-f]*)'\)|'([^']*(?:''[^']*)*)')\s*;"
    r"\s*dbms_lob\.write\(\s*\w+\s*,\s*(\d+)\s*,\s*(\d+)\s*,\s*\w+\s*\)\s*;\s*(?:END;\s*)?",
    re.S,
)
_FIRST_WRITE = re.compile(r"dbms_lob\.write\(\s*\w+\s*,\s*\d+\s*,\s*1\s*,\s*\w+\s*\)\s*;\s*(?:END;\s*)?$")
_TRIMMED = re.compile(r"\s*dbms_lob\.trim\(\s*\w+\s*,\s*(\d+)\s*\)\s*;\s*(?:END;\s*)?")
_BROKEN = "\N{REPLACEMENT CHARACTER}"  # half of a character that two writes share


GoesOn = Literal["", "empty", "written", "doubtful"]


@dataclass(frozen=True)
class Lobs:
    """What is to be done about the large values of a table.

    Args:
        committed: the other rows, and for each value that is known an UPDATE in the place of its locator.
        touched: rows that tell whose values are to be read again.
        lost: numbers of transactions that wrote a value of which no row tells whose it is.
        goes_on: where the last value may go on behind these rows; "empty": nothing is written into it yet, "doubtful":
            what is written may be of a row whose statement comes next.
    """

    committed: Committed
    touched: pa.RecordBatch
    lost: frozenset[int]
    goes_on: GoesOn


@dataclass
class _Statement:
    """A row, with all its pieces: rows first..end."""

    first: int
    end: int
    code: int
    number: int
    text: str
    is_sure: bool


@dataclass
class _Group:
    """A row that tells of which value the rows behind it are, and these."""

    begin: _Statement
    writes: list[_Statement] = field(default_factory=list)

    @property
    def end(self) -> int:
        return (self.writes or [self.begin])[-1].end


def put_together(wanted: WantedTable, committed: Committed, *, trusts: bool, goes_on: GoesOn = "") -> Lobs:
    """The large values of one table's rows.

    Args:
        trusts: False: all values are to be read again.
        goes_on: of the rows before: the first ones here may be of the value there, which is to be read again already.
    """
    groups, head, lost, open_end = _groups(committed, goes_on)
    own = dict(_own(wanted, committed, groups, open_end=bool(open_end))) if wanted.table.key else {}
    known = {place: text for place, text in own.items() if text is not None and trusts}
    doubted = [group for group in groups if group.begin.first not in own and _begins(group.writes)]
    ends = [(group.begin.number, group.end) for group in doubted]
    is_doubted = goes_on == "doubtful" or (goes_on == "empty" and _begins(head))
    if is_doubted:
        ends.append((0, head[-1].end if head else 0))
    lost |= {number for number, end in ends if _is_statement(committed, end, number)}
    if open_end == "written" and (groups[-1] in doubted if groups else is_doubted):
        open_end = "doubtful"
    large = pc.is_in(committed.rows.column("OPERATION_CODE"), value_set=LARGE)
    begins = _mask(len(large), list(known))
    touched = [row for group in groups if group.begin.first not in known for row in _rows(group.begin)]
    changed = _updates(committed.rows, begins, [known[place] for place in sorted(known)])
    kept = pc.or_(pc.invert(large), begins)
    left = replace(
        committed,
        rows=changed.filter(kept),
        numbers=committed.numbers.filter(kept),
        orders=committed.orders.filter(kept),
    )
    return Lobs(left, committed.rows.take(pa.array(touched, pa.int64())), frozenset(lost), open_end)


def _rows(statement: _Statement) -> range:
    return range(statement.first, statement.end)


def _mask(count: int, places: Sequence[int]) -> pa.BooleanArray:
    return pc.is_in(pa.array(range(count), pa.int64()), value_set=pa.array(places, pa.int64()))


def _updates(rows: pa.RecordBatch, places: pa.BooleanArray, statements: list[str]) -> pa.RecordBatch:
    """The rows with UPDATE statements in some places."""
    given = {"OPERATION_CODE": 3, "STATUS": 0, "CSF": 0}
    for name, value in given.items():
        at = rows.schema.get_field_index(name)
        one = pa.scalar(value, rows.schema.field(at).type)
        rows = rows.set_column(at, rows.schema.field(at), pc.if_else(places, one, rows.column(at)))
    at = rows.schema.get_field_index("SQL_REDO")
    texts = pc.replace_with_mask(rows.column(at), places, pa.array(statements, pa.utf8()))
    return rows.set_column(at, rows.schema.field(at), texts)


def _statements(committed: Committed) -> Iterator[_Statement]:
    """The rows of large values, pieces joined."""
    codes, statuses, csf, texts = (
        committed.rows.column(name) for name in ("OPERATION_CODE", "STATUS", "CSF", "SQL_REDO")
    )
    held: _Statement | None = None
    for place in pc.indices_nonzero(pc.is_in(codes, value_set=LARGE)).to_pylist():
        text = texts[place].as_py() or ""
        if held is None:
            number, is_sure = committed.numbers[place].as_py(), statuses[place].as_py() == 0
            held = _Statement(place, place + 1, codes[place].as_py(), number, text, is_sure)
        else:
            held.end, held.text = place + 1, held.text + text
        if not csf[place].as_py():
            yield held
            held = None


def _groups(committed: Committed, goes_on: GoesOn) -> tuple[list[_Group], list[_Statement], set[int], GoesOn]:
    """Groups, writes in front of them, numbers of transactions with writes of none, and whether the last may go on.

    A write belongs to the row in front of it that tells of a value, unless it begins anew what was written already:
    then it may be of a row that is still to come.
    """
    groups: list[_Group] = []
    head: list[_Statement] = []
    lost: set[int] = set()
    writes: list[_Statement] | None = head if goes_on else None
    number, end, is_empty = 0, 0, goes_on == "empty"
    for one in _statements(committed):
        if one.code in _BEGINS or names_its_row(one.text):
            groups.append(_Group(one))
            writes = groups[-1].writes if one.code == LOCATOR else None
            number, end, is_empty = one.number, one.end, True
        elif writes is None or (one.number, one.first) != (number, end) or not (is_empty or _goes_on(one)):
            lost.add(one.number)
            writes = None
        else:
            writes.append(one)
            trimmed = _TRIMMED.fullmatch(one.text)
            end, is_empty = one.end, trimmed is not None and int(trimmed[1]) == 0
    is_last = (number, end) == (len(committed.commits) - 1, len(committed.rows))
    if committed.ended or writes is None or not is_last:
        return groups, head, lost, ""
    return groups, head, lost, "empty" if is_empty else "written"


def _goes_on(one: _Statement) -> bool:
    """Whether a write is not one of a value's beginning."""
    return one.code != _WRITE or _FIRST_WRITE.search(one.text) is None


def _begins(writes: Sequence[_Statement]) -> bool:
    """Whether writes begin a value, as those of a row do whose statement stands behind them.

    A value that is kept in a BasicFile is written in front of its row, and the row in front of that, which tells of
    another value, may be without a write of its own.
    """
    return not all(map(_goes_on, writes))


def _is_statement(committed: Committed, place: int, number: int) -> bool:
    """Whether an INSERT or UPDATE of that transaction stands there."""
    if place == len(committed.rows) or committed.numbers[place].as_py() != number:
        return False
    return committed.rows.column("OPERATION_CODE")[place].as_py() in _STATEMENTS


def _own(
    wanted: WantedTable, committed: Committed, groups: list[_Group], *, open_end: bool
) -> Iterator[tuple[int, str | None]]:
    """(place of the locator, UPDATE) of values that the statement in front of them empties; None: it is not known."""
    runs = list(_runs(committed, groups))
    if not runs:
        return
    emptied = _emptied(wanted, committed, [statement for statement, _ in runs])
    keys = rows_told(wanted, [group.begin.text for _, run in runs for group in run])
    at = 0
    for place, (_, run) in enumerate(runs):
        own_keys, at = keys[at : at + len(run)], at + len(run)
        columns = [_column(group) for group in run]
        key, empty = emptied.get(place, (None, frozenset()))
        is_open = open_end and run[-1] is groups[-1]
        for column, group, told in zip(columns, run, own_keys, strict=True):
            if told is None or told[1] != key or column not in empty or columns.count(column) > 1:
                continue
            value = None if is_open else _value(wanted, column, group)
            table = f"{quote(wanted.found.owner)}.{quote(wanted.found.name)}"
            text = None if value is None else f"update {table} set {quote(column)} = {value}{told[0]}"
            yield group.begin.first, text


def _column(group: _Group) -> str:
    found = _COLUMN.search(group.begin.text) if group.begin.code == LOCATOR else None
    return "" if found is None else found[1]


def _runs(committed: Committed, groups: list[_Group]) -> Iterator[tuple[range, list[_Group]]]:
    """Groups that stand one behind the other directly behind an INSERT or UPDATE, and that statement's rows."""
    codes, statuses, csf = (committed.rows.column(name) for name in ("OPERATION_CODE", "STATUS", "CSF"))
    place = 0
    while place < len(groups):
        run = [groups[place]]
        place += 1
        while place < len(groups) and groups[place].begin.first == run[-1].end and _same(run[0], groups[place]):
            run.append(groups[place])
            place += 1
        last = run[0].begin.first - 1
        if last < 0 or committed.numbers[last].as_py() != run[0].begin.number:
            continue
        if codes[last].as_py() not in _STATEMENTS or statuses[last].as_py():
            continue
        first = last
        while first > 0 and csf[first - 1].as_py():
            first -= 1
        yield range(first, last + 1), run


def _same(one: _Group, other: _Group) -> bool:
    return one.begin.number == other.begin.number


def _emptied(
    wanted: WantedTable, committed: Committed, statements: list[range]
) -> dict[int, tuple[tuple[object, ...], frozenset[str]]]:
    """Which statement makes a row of which key, and which of its columns EMPTY_CLOB() or EMPTY_BLOB()."""
    places = pa.array([row for rows in statements for row in rows], pa.int64())
    rows = committed.rows.take(places).select(["SQL_REDO", "CSF"]).rename_columns(["statement", "csf"])
    firsts, at = dict[int, int](), 0
    for place, own in enumerate(statements):
        firsts[at], at = place, at + len(own)
    filled, unset = (_bits(wanted, parse_redo(plan, rows)) for plan in (wanted.plan, wanted.plan_of_empty))
    names = [column.name for column in wanted.table.columns]
    found = {}
    for row, (key, bits) in filled.items():
        empty = unset[row][1] & ~bits if row in unset else 0
        found[firsts[row]] = key, frozenset(name for index, name in enumerate(names) if empty >> index & 1)
    return found


def _bits(wanted: WantedTable, redo: Redo) -> dict[int, tuple[tuple[object, ...], int]]:
    """The key and the columns without a value of each new row, by the row of its statement."""
    keys = zip(*(values_of(redo.record.column(name)) for name in wanted.table.key), strict=True)
    has_unset = UNSET in redo.record.schema.names
    unset = redo.record.column(UNSET).to_pylist() if has_unset else [b""] * len(redo.record)
    rows, before = redo.rows.to_pylist(), redo.before.to_pylist()
    return {
        row: (key, int.from_bytes(bits, "little"))
        for row, key, bits, is_old in zip(rows, keys, unset, before, strict=True)
        if not is_old
    }


def _value(wanted: WantedTable, column: str, group: _Group) -> str | None:
    """The value as a literal; None where its writes do not tell it whole."""
    is_bytes = column in wanted.found.by_name and wanted.found.by_name[column].data_type == "BLOB"
    parts: list[str] = []
    units = 0
    for one in group.writes:
        if not one.is_sure:
            return None
        if one.code == _TRIM and (trimmed := _TRIMMED.fullmatch(one.text)) is not None:
            if int(trimmed[1]) not in (0, units):
                return None
            if not int(trimmed[1]):
                parts, units = [], 0
            continue
        written = _WRITTEN.fullmatch(one.text) if one.code == _WRITE else None
        if written is None or (written[1] is not None) != is_bytes or int(written[4]) != units + 1:
            return None
        text = written[1] if is_bytes else written[2].replace("''", "'")
        if int(written[3]) != (len(text) // 2 if is_bytes else len(text.encode("utf-16-le")) // 2) or _BROKEN in text:
            return None
        parts.append(text)
        units += int(written[3])
    if not units:
        return None
    return f"HEXTORAW('{''.join(parts)}')" if is_bytes else literal("".join(parts))
