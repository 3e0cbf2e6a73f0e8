"""Rows that wait for their transaction to be complete: kept as they came, counted by transaction, given out in order.

A chunk is one batch's rows of one table that wait. Work on rows is columnar; Python sees transactions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.batches import join
from libcore import segment
from libcore.change import POSITION, POSITION_TYPE, SOURCE_TS, TX, TX_ORDER, ChangeBatch
from libcore.errors import FatalError
from libcore.schema import Table
from libcore.transaction_mark import LOST, Mark

_POSTGRES_ID = r"^([0-9]+):[0-9]+$"
_OUTSIDE = 1 << 62  # rows outside of a transaction stand behind all of the transaction before them


def transaction_keys(ids: pa.Array) -> pa.Array:
    """What messages of one transaction have in common in their ids: of PostgreSQL's "xid:lsn" the xid, else all."""
    return pc.replace_substring_regex(ids, _POSTGRES_ID, r"\1")


def transaction_key(name: str) -> str:
    """`transaction_keys` of one id."""
    first, colon, last = name.partition(":")
    plain = bool(colon) and first.isascii() and first.isdigit() and last.isascii() and last.isdigit()
    return first if plain else name


@dataclass
class Chunk:
    """Rows of one table that wait.

    Args:
        record: with TX and TX_ORDER. names: transactions in it. codes: int32, each row's index in names.
    """

    table: Table
    record: pa.RecordBatch
    names: list[str]
    codes: pa.Int32Array
    changed: bool = True

    @property
    def bytes(self) -> int:
        """Bytes of the rows."""
        return int(self.record.nbytes) + 4 * len(self.codes)


@dataclass
class Arrived:
    """What has come of one transaction.

    Args:
        counts: changes by table; exact where they came in one chunk, else at least as many as are there.
        marks: messages without a row. since_s: when its first message came. time_us: of its commit, None unknown.
    """

    since_s: float
    time_us: int | None = None
    counts: dict[str, int] = field(default_factory=dict)
    chunks: dict[str, list[int]] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)

    @property
    def lost(self) -> list[Mark]:
        """Messages of it that became dead letters."""
        return [mark for mark in self.marks if mark.kind == LOST]


class Pending:
    """All rows that wait, by transaction."""

    def __init__(self) -> None:
        self.chunks: dict[int, Chunk] = {}
        self.transactions: dict[str, Arrived] = {}
        self.bytes = self.rows = 0
        self.dropped: list[int] = []  # chunks that went since the last look
        self._number = 0

    def add(self, table: Table, record: pa.RecordBatch, now_s: float, number: int | None = None) -> None:
        """Keep rows that have a transaction. Raises FatalError where one lacks its number in it."""
        if record.column(TX_ORDER).null_count:
            raise FatalError(
                f"table {table.name}: expected data_collection_order in each change's transaction, found none: "
                "set provide.transaction.metadata on a Debezium of 1.1 or later"
            )
        encoded = transaction_keys(record.column(TX)).dictionary_encode()
        names, codes = encoded.dictionary.to_pylist(), encoded.indices
        number = self._next(number)
        self.chunks[number] = chunk = Chunk(table, record, names, codes)
        self.bytes, self.rows = self.bytes + chunk.bytes, self.rows + record.num_rows
        times = record.column(SOURCE_TS).cast(pa.int64())
        rows = pa.Table.from_arrays([codes, record.column(TX_ORDER), times], ["code", "order", "time"])
        found = rows.group_by("code").aggregate([("order", "count_distinct"), ("time", "max")])
        for code, count, time_us in zip(*(found.column(name).to_pylist() for name in _COUNTED), strict=True):
            arrived = self._arrived(names[code], now_s, time_us)
            arrived.counts[table.name] = arrived.counts.get(table.name, 0) + count
            arrived.chunks.setdefault(table.name, []).append(number)

    def add_mark(self, mark: Mark, now_s: float) -> None:
        """Count a message without a row."""
        assert mark.collection is not None
        arrived = self._arrived(transaction_key(mark.transaction), now_s, mark.time_us)
        if any(other.collection == mark.collection and other.number == mark.number for other in arrived.marks):
            return
        arrived.marks.append(mark)
        arrived.counts[mark.collection] = arrived.counts.get(mark.collection, 0) + 1
        arrived.chunks.setdefault(mark.collection, []).append(-1)

    def counts(self, name: str) -> Mapping[str, int]:
        """Changes that came of a transaction, by table; perhaps more than there are, see `recount`."""
        arrived = self.transactions.get(name)
        return {} if arrived is None else arrived.counts

    def recount(self, names: Sequence[str]) -> None:
        """Make the counts of these transactions exact: a change that came twice (a redelivery) counts once."""
        ranks = {name: rank for rank, name in enumerate(names)}
        doubtful: dict[str, set[int]] = {}
        for name in names:
            for table, numbers in self.transactions[name].chunks.items() if name in self.transactions else ():
                if len(numbers) > 1:
                    doubtful.setdefault(table, set()).update(numbers)
        for table, chunks in doubtful.items():
            for rank, count in self._distinct(table, chunks, ranks):
                self.transactions[names[rank]].counts[table] = count

    def _distinct(self, table: str, numbers: set[int], ranks: Mapping[str, int]) -> Iterable[tuple[int, int]]:
        """(rank, changes of the table) of transactions with rows or marks there."""
        parts = []
        for number in sorted(number for number in numbers if number >= 0):
            chunk = self.chunks[number]
            rank = pa.array([ranks.get(name) for name in chunk.names], pa.int64()).take(chunk.codes)
            parts.append(pa.Table.from_arrays([rank, chunk.record.column(TX_ORDER)], ["rank", "order"]))
        marked = [
            (rank, mark.number)
            for name, rank in ranks.items()
            for mark in (self.transactions[name].marks if name in self.transactions else ())
            if mark.collection == table
        ]
        columns = [pa.array([pair[place] for pair in marked], pa.int64()) for place in (0, 1)]
        parts.append(pa.Table.from_arrays(columns, ["rank", "order"]))
        counted = pa.concat_tables(parts).group_by("rank").aggregate([("order", "count_distinct")])
        pairs = zip(counted.column("rank").to_pylist(), counted.column("order_count_distinct").to_pylist(), strict=True)
        return [(rank, count) for rank, count in pairs if rank is not None]

    def take(self, ordinals: Mapping[str, int]) -> list[tuple[Table, pa.RecordBatch]]:
        """Remove the rows of these transactions, a batch a table; positions: the transaction's ordinal, its order."""
        numbers: dict[int, None] = {}
        for name in ordinals:
            arrived = self.transactions.pop(name, None)
            for listed in [] if arrived is None else arrived.chunks.values():
                numbers.update(dict.fromkeys(number for number in listed if number >= 0))
        taken: dict[Table, list[pa.RecordBatch]] = {}
        for number in sorted(numbers):
            chunk = self.chunks[number]
            taken.setdefault(chunk.table, []).append(self._take(number, chunk, ordinals))
        # One batch a table: a change that came again behind newer ones is told by its position, which steps compare
        # within a batch. Of a table that gained columns meanwhile the older form goes first.
        parts = [(table, join(table, records)) for table, records in taken.items()]
        if len({table.name for table, _ in parts}) < len(parts):
            parts.sort(key=lambda part: min(part[1].column(POSITION).to_pylist()))
        return parts

    def _take(self, number: int, chunk: Chunk, ordinals: Mapping[str, int]) -> pa.RecordBatch:
        by_name = pa.array([ordinals.get(name) for name in chunk.names], pa.int64())
        ordinal = by_name.take(chunk.codes)
        record, left = chunk.record, ordinal.null_count
        self.bytes, self.rows = self.bytes - chunk.bytes, self.rows - record.num_rows + left
        if left:
            gone = pc.is_valid(ordinal)
            stay = pc.invert(gone)
            chunk.record, chunk.codes, chunk.changed = record.filter(stay), chunk.codes.filter(stay), True
            self.bytes += chunk.bytes
            record, ordinal = record.filter(gone), ordinal.drop_null()
        else:
            del self.chunks[number]
            self.dropped.append(number)
        return placed(record, ordinal, record.column(TX_ORDER))

    def _arrived(self, name: str, now_s: float, time_us: int | None) -> Arrived:
        arrived = self.transactions.get(name)
        if arrived is None:
            arrived = self.transactions[name] = Arrived(now_s)
        if time_us is not None:
            arrived.time_us = max(time_us, arrived.time_us or time_us)
        return arrived

    def _next(self, number: int | None) -> int:
        found = self._number if number is None else number
        self._number = max(self._number, found + 1)
        return found


_COUNTED = ("code", "order_count_distinct", "time_max")


def outside(record: pa.RecordBatch, ordinal: int, first: int) -> pa.RecordBatch:
    """Rows outside of a transaction, placed behind transaction `ordinal`; `first` counts such rows."""
    count = record.num_rows
    numbers = pa.array(range(_OUTSIDE + first, _OUTSIDE + first + count), pa.int64())
    return placed(record, pa.repeat(pa.scalar(ordinal, pa.int64()), count), numbers)


def placed(record: pa.RecordBatch, ordinals: pa.Int64Array, orders: pa.Int64Array) -> pa.RecordBatch:
    """The rows without TX and TX_ORDER, each at position 16 zero bytes, ordinal, order, both big-endian."""
    count = record.num_rows
    if count == 0:
        return record.drop_columns([TX, TX_ORDER])
    places = bytearray(32 * count)
    for offset, values in ((16, ordinals), (24, orders)):
        little = memoryview(values.buffers()[1])[8 * values.offset : 8 * (values.offset + count)]
        for byte in range(8):
            places[offset + 7 - byte :: 32] = little[byte::8].tobytes()
    array = pa.Array.from_buffers(POSITION_TYPE, count, [None, pa.py_buffer(bytes(places))])
    index = record.schema.get_field_index(POSITION)
    return record.set_column(index, record.schema.field(index), array).drop_columns([TX, TX_ORDER])


def encoded(chunk: Chunk) -> bytes:
    """A chunk's rows for the state."""
    return segment.write([(chunk.table, chunk.record)], {}).to_pybytes()


def decoded(data: bytes) -> tuple[Table, pa.RecordBatch]:
    """What `encoded` was given."""
    return segment.read(data).parts[0]


def as_batches(parts: Iterable[tuple[Table, pa.RecordBatch]]) -> list[ChangeBatch]:
    """Change batches of rows."""
    return [ChangeBatch(table, record) for table, record in parts]


def split_outside(record: pa.RecordBatch) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """(rows outside of a transaction, rows inside of one)."""
    nulls = record.column(TX).null_count
    if nulls in (0, record.num_rows):
        nothing = record.slice(0, 0)
        return (nothing, record) if nulls == 0 else (record, nothing)
    out = pc.is_null(record.column(TX))
    return record.filter(out), record.filter(pc.invert(out))
