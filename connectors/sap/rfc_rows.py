"""A table as a pipeline wants it, and rows of texts as its columns: values, keys, and what could not be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from connectors.base.background import Piece
from connectors.base.columns import part
from connectors.base.items import Item
from connectors.base.rows import Refused, change_batch, delete_batch, refused_rows
from connectors.sap.rfc_dictionary import Amount, Described
from connectors.sap.rfc_table import Answer
from connectors.sap.rfc_where import Key
from connectors.sap.types import NUMBERS, DdicField, sap_field
from libcore.change import Op
from libcore.errors import ConfigurationError
from libcore.sapfmt import read_column, read_rows
from libcore.sapfmt_columns import shift_amounts
from libcore.sapfmt_rfc import fields_plan
from libcore.sapfmt_types import Kind, SapCode, SapField, SapPlan
from libcore.schema import Table

KEY = "key {}"
"""Names of the columns that hold key fields as texts; no field of SAP has a blank in its name."""


@dataclass(frozen=True)
class WantedTable:
    """A table as the pipeline wants it.

    Args:
        table: columns and key, perhaps fewer columns or other types than the system has.
        found: as the system has it.
        amounts: amounts that are shifted, and where their currencies stand.
        decimals: TCURX.
        version: a column that is another after each change; "": none.
        initial_null, external: see SapRfcConfig.
        generation: raised by a person when the system was restored.
        client: that of the logon.
        whole, dropped: see connectors.base.columns.AskedTable.
    """

    table: Table
    found: Described
    amounts: Mapping[str, Amount] = field(default_factory=dict)
    decimals: Mapping[str, int] = field(default_factory=dict)
    version: str = ""
    initial_null: bool = False
    external: bool = False
    generation: int = 0
    client: str = ""
    whole: str = ""
    dropped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.found.key:
            raise ConfigurationError(
                f"source.sap_rfc: table {self.table.name}: expected a primary key, found none to tell rows apart"
            )
        for column in self.table.columns:
            sap_field(self.found.field(column.name), column.type)

    def part(self, columns: Sequence[str]) -> WantedTable:
        """With its key and those columns alone; (): with all. Raises ConfigurationError."""
        table = part(self, columns)
        names = [column.name for column in table.columns]
        return replace(self, table=table, amounts={name: one for name, one in self.amounts.items() if name in names})

    @cached_property
    def key_names(self) -> tuple[str, ...]:
        """The fields of the system's own key, without the client."""
        return tuple(one.name for one in self.found.key)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All fields that are asked for: the system's key, the version, the columns, and those that amounts need."""
        others = [self.version, *(column.name for column in self.table.columns)]
        for amount in self.amounts.values():
            others += [amount.column, *(one.name for one in amount.key)]
        return tuple(dict.fromkeys([*self.key_names, *(name for name in others if name)]))

    @cached_property
    def shared(self) -> int:
        """How many of them stand in each part of a wide row."""
        return len(self.key_names) + bool(self.version)

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """How many characters of a row each of them takes."""
        return tuple(self.found.field(name).length for name in self.names)

    @cached_property
    def readings(self) -> dict[str, SapField]:
        """How each field's values are read; those that are no column of the table as texts."""
        types = {column.name: column.type for column in self.table.columns}
        made = {}
        for name in self.names:
            if name not in types:
                made[name] = SapField(name, Kind.CHAR)
                continue
            keyed = name in self.key_names
            made[name] = sap_field(
                self.found.field(name), types[name], initial_null=self.initial_null and not keyed,
                external=self.external and not keyed,
            )  # fmt: skip
        return made


@dataclass(frozen=True)
class Bad:
    """A row that cannot be read: where it stood in its answer, why, and its text."""

    row: int
    error: str
    raw: str
    byte_position: int
    delimiter: bool


class Plans:
    """How answers to one question are cut into cells; the system's own offsets and lengths, kept while they stay."""

    def __init__(self, wanted: WantedTable) -> None:
        self._wanted = wanted
        self._made: dict[tuple[object, ...], tuple[SapPlan, SapPlan]] = {}

    def values(self, answer: Answer) -> tuple[pa.RecordBatch, list[Bad]]:
        """The fields of an answer as typed columns, NULL where bad; and the bad rows."""
        rows = read_rows(self._plans(answer)[0], answer.rows, keep_bad=True)
        self._check_raw(rows.record)
        bad = [
            Bad(one.row, one.text, answer.rows[one.row].as_py(), one.byte_position, one.code == SapCode.DELIMITER)
            for one in rows.errors
        ]
        return rows.record, bad

    def _check_raw(self, record: pa.RecordBatch) -> None:
        """A RAW has all its bytes in each row: else some were cut off, by a function whose fields are LENG wide."""
        for name, column in zip(record.schema.names, record.columns, strict=True):
            field = self._wanted.found.field(name)
            if field.datatype != "RAW":
                continue
            sizes = pc.divide(pc.binary_length(column), 1 if pa.types.is_binary(column.type) else 2)
            short = pc.filter(sizes, pc.and_(pc.less(sizes, field.length), pc.greater(sizes, 0)))
            if pc.any(pc.is_valid(short)).as_py():
                raise ConfigurationError(
                    f"source.sap_rfc: table {self._wanted.table.name}: field {name}: expected {field.length} bytes in "
                    f"each row, found {short[0]}: the function cuts them: leave the field out by `columns`, or name "
                    "another function"
                )

    def keys(self, answer: Answer) -> pa.RecordBatch:
        """The system's key (and the version) as texts."""
        return read_rows(self._plans(answer)[1], answer.rows, keep_bad=True).record

    def _plans(self, answer: Answer) -> tuple[SapPlan, SapPlan]:
        mark = (answer.fields, answer.delimiter)
        if mark not in self._made:
            rows = [
                {"FIELDNAME": name, "OFFSET": offset, "LENGTH": 0 if answer.delimiter else length, "TYPE": kind}
                for name, offset, length, kind in answer.fields
            ]
            shared = [*self._wanted.key_names, *([self._wanted.version] if self._wanted.version else [])]
            as_text = {name: SapField(name, Kind.CHAR if name in shared else Kind.SKIP) for name, *_ in answer.fields}
            padded = not answer.delimiter
            readings = dict(self._wanted.readings)
            values = fields_plan(rows, delimiter=answer.delimiter, padded=padded, columns=readings)
            keys = fields_plan(rows, delimiter=answer.delimiter, padded=padded, columns=as_text)
            named = tuple(
                replace(one, name=KEY.format(one.name)) if one.kind != Kind.SKIP else one for one in keys.fields
            )
            self._made[mark] = values, SapPlan(named, keys.delimiter, keys.padded)
        return self._made[mark]


def key_tuples(keys: pa.RecordBatch, fields: Sequence[DdicField]) -> list[Key]:
    """The key of each row: texts without the blanks in front of numbers."""
    columns = [
        pc.utf8_ltrim(keys.column(index), " ") if one.datatype in NUMBERS else keys.column(index)
        for index, one in enumerate(fields)
    ]
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@dataclass(frozen=True)
class Rows:
    """Rows of a table, whole and typed.

    Args:
        record: the fields of WantedTable.names, amounts as they are stored.
        keys: the system's key of each as a text, columns KEY.
        letters: rows that could not be read.
        last: the key of the last row of an ordered answer, good or bad; None: it was empty.
    """

    record: pa.RecordBatch
    keys: pa.RecordBatch
    letters: tuple[Refused, ...] = ()
    last: Key | None = None

    def __len__(self) -> int:
        return int(self.record.num_rows) + len(self.letters)

    def all_keys(self, wanted: WantedTable) -> list[Key]:
        """The keys of the rows, and of those that could not be read."""
        bad = [tuple(json.loads(one.key_text or "{}").values()) for one in self.letters]
        return [*key_tuples(self.keys, wanted.found.key), *bad]


def letter(wanted: WantedTable, bad: Bad, keys: pa.RecordBatch) -> Refused:
    """A bad row for the dead letters, its key as the system has it."""
    (texts,) = key_tuples(keys.slice(bad.row, 1), wanted.found.key)
    key = dict(zip(wanted.key_names, texts, strict=True))
    return Refused(
        wanted.table.name, -1, f"table {wanted.table.name}: {bad.error}", bad.raw.encode(), json.dumps(key),
        bad.byte_position,
    )  # fmt: skip


def without(rows: Rows, gone: Iterable[int], letters: Sequence[Refused]) -> Rows:
    """The rows but those, and what is told of them."""
    some = set(gone)
    if not some:
        return rows
    good = pa.array([row not in some for row in range(rows.record.num_rows)], pa.bool_())
    return replace(
        rows, record=rows.record.filter(good), keys=rows.keys.filter(good), letters=(*rows.letters, *letters)
    )


def shifted(wanted: WantedTable, rows: Rows, currencies: Mapping[str, pa.Array]) -> Rows:
    """The rows with each amount as what it is; `currencies`: by the amount's column, for each row."""
    names = rows.record.schema.names
    columns, faults = dict(zip(names, rows.record.columns, strict=True)), dict[int, Bad]()
    for name, found in currencies.items():
        column = wanted.table.column(name)
        columns[name], errors = shift_amounts(columns[name], found, wanted.decimals, column.type)
        for error in errors:
            text = f"column {name}: {error.text.split(': ', 1)[-1]}"
            faults.setdefault(error.row, Bad(error.row, text, "", -1, delimiter=False))
    record = pa.RecordBatch.from_arrays(list(columns.values()), names=names)
    letters = [letter(wanted, replace(bad, raw=_shown(rows.record, row)), rows.keys) for row, bad in faults.items()]
    return without(replace(rows, record=record), faults, letters)


def _shown(record: pa.RecordBatch, row: int) -> str:
    return json.dumps(record.slice(row, 1).to_pylist()[0], default=str, ensure_ascii=False)


def piece(
    wanted: WantedTable, rows: Rows, op: Op, *, commit: int, first: int, flow: str, state: tuple[object, ...]
) -> Piece:
    """Rows as one piece: a batch, and dead letters of those that do not fit."""
    table, size = wanted.table, 0
    made: list[Item] = []
    if rows.record.num_rows:
        columns = [rows.record.column(column.name).cast(column.type.arrow) for column in table.columns]
        batch = change_batch(table, columns, op, generation=wanted.generation, commit=commit, first=first)
        made.append(batch)
        size = batch.record.nbytes
    if rows.letters:
        made.append(
            refused_rows(
                rows.letters, flow=flow, table=table.name, generation=wanted.generation, commit=commit, first=first
            )
        )
    return Piece(made, len(rows), state, size)


def deletes(
    wanted: WantedTable, keys: Sequence[Key], *, commit: int, first: int, state: tuple[object, ...]
) -> Piece | None:
    """Deletes of the system's keys; those that no row of the table's types could have are left out."""
    table, arrays = wanted.table, {}
    good = pa.array([True] * len(keys), pa.bool_())
    names = wanted.key_names
    for name in table.key:
        # a key column that is none of these is the client
        values = [key[names.index(name)] for key in keys] if name in names else [wanted.client] * len(keys)
        reading = wanted.readings[name]
        arrays[name], _ = read_column(pa.array(values, pa.utf8()), reading)
        good = pc.and_(good, pc.is_valid(arrays[name]))
    batch = delete_batch(table, arrays, good, generation=wanted.generation, commit=commit, first=first)
    return None if batch is None else Piece([batch], len(batch), state, batch.record.nbytes)
