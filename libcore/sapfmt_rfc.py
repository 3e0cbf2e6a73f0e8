"""What an SAP system says about its data, as plans and calls: FIELDS of RFC_READ_TABLE, wide tables in several calls,
WHERE clauses, keys of change documents, change modes, delta tokens."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from libcore.change import OP, POSITION, POSITION_TYPE, SOURCE_TS, SOURCE_TS_TYPE, UNSET, Op, unset_bytes
from libcore.compact import compact
from libcore.errors import ConfigurationError, HeadraceError
from libcore.sapfmt_types import Kind, SapField, SapPlan
from libcore.schema import Column, ColumnType, Table, parse_type

OPTION_CHARACTERS = 72
"""Characters a row of OPTIONS holds (RFC_DB_OPT-TEXT)."""
ROW_CHARACTERS = 512
"""Characters a row of DATA holds (TAB512-WA); more fields raise DATA_BUFFER_EXCEEDED."""

LETTERS: dict[str, tuple[str, Kind | None, str]] = {
    "C": ("CHAR", Kind.CHAR, "string"),
    "N": ("NUMC", Kind.NUMC, "string"),
    "D": ("DATS", Kind.DATS, "date"),
    "T": ("TIMS", Kind.TIMS, "time"),
    "P": ("packed", Kind.NUMBER, "numeric"),
    "F": ("FLTP", Kind.FLTP, "float64"),
    "X": ("raw/int in character hex", Kind.RAW, "bytes"),
    "I": ("INT4", Kind.INT4, "int32"),
    "s": ("INT2", Kind.INT2, "int16"),
    "b": ("INT1", Kind.INT1, "int16"),
    "8": ("INT8", Kind.INT8, "int64"),
    "a": ("DECFLOAT16", Kind.NUMBER, "numeric"),
    "e": ("DECFLOAT34", Kind.NUMBER, "numeric"),
    "g": ("STRING (not readable by RFC_READ_TABLE)", None, ""),
    "y": ("XSTRING (not readable by RFC_READ_TABLE)", None, ""),
}
"""RFC_DB_FLD-TYPE: what it means, how the value is written, the type of the column."""

ODQ_OPERATIONS = {"C": "c", "U": "u", "D": "d", "": "r"}
"""ODQ_CHANGEMODE of ODP as the operations of an envelope; blank on a full load."""
CHANGE_OPERATIONS = {"I": "c", "U": "u", "D": "d", "E": "d", "J": "c"}
"""CDPOS-CHNGIND; E and J are a deletion and an insertion that name a single field each."""
LANGUAGES = {
    "0": "SR", "1": "ZH", "2": "TH", "3": "KO", "4": "RO", "5": "SL", "6": "HR", "7": "MS", "8": "UK", "9": "ET",
    "A": "AR", "B": "HE", "C": "CS", "D": "DE", "E": "EN", "F": "FR", "G": "EL", "H": "HU", "I": "IT", "J": "JA",
    "K": "DA", "L": "PL", "M": "ZF", "N": "NL", "O": "NO", "P": "PT", "Q": "SK", "R": "RU", "S": "ES", "T": "TR",
    "U": "FI", "V": "SV", "W": "BG", "X": "LT", "Y": "LV", "a": "AF", "b": "IS", "c": "CA", "d": "SH", "i": "ID",
}  # fmt: skip
"""T002 as delivered: SPRAS to ISO 639 (and ZF, traditional Chinese); a system's own languages are in its T002."""


def fields_plan(
    fields: Sequence[Mapping[str, Any]],
    *,
    delimiter: str = "",
    padded: bool = True,
    decimals: Mapping[str, int] | None = None,
    columns: Mapping[str, SapField] | None = None,
) -> SapPlan:
    """The plan of what RFC_READ_TABLE answers.

    Args:
        fields: rows of FIELDS: FIELDNAME, OFFSET, LENGTH, TYPE; DECIMALS where the module gives it.
        delimiter: what the call asked for.
        padded: whether values have their full lengths (RFC_READ_TABLE does it; some modules do not where there is a
            delimiter).
        decimals: DD03L-DECIMALS by field; a packed field that has them becomes decimal(LENGTH, decimals), another
            numeric.
        columns: fields to be read in another way; their kind, type, decimals, initial_null and currency count.
    Raises: ConfigurationError for a type that RFC_READ_TABLE cannot give, or a field that `columns` makes impossible.
    """
    made = []
    for row in fields:
        name, letter = str(row["FIELDNAME"]).strip(), str(row["TYPE"]).strip()
        meaning, kind, type_name = LETTERS.get(letter, (f"TYPE {letter!r}", None, ""))
        offset, length = int(row["OFFSET"]), int(row["LENGTH"])
        own = (columns or {}).get(name)
        if own is not None:
            made.append(
                SapField(name, own.kind, own.type, offset, length, own.decimals, own.initial_null, own.currency)
            )
            continue
        if kind is None:
            raise ConfigurationError(f"SAP field {name}: {meaning}: expected one of {', '.join(_readable())}")
        column_type = parse_type(type_name)
        places = row.get("DECIMALS", (decimals or {}).get(name))
        if letter == "P" and places is not None and str(places).strip():
            column_type = ColumnType("decimal", min(38, max(length, int(places), 1)), int(places))
        made.append(SapField(name, kind, column_type, offset, length))
    return SapPlan(tuple(made), delimiter, padded)


def _readable() -> list[str]:
    return [letter for letter, (_, kind, _) in LETTERS.items() if kind is not None]


def key_plan(key: Sequence[tuple[str, int]]) -> SapPlan:
    """The plan of CDPOS-TABKEY or BDCP2-TABKEY: key fields (name, length in characters) one behind the other.

    A key above 70 characters is not in TABKEY; a key field that is not of characters stands there in the system's own
    bytes: neither can be read.
    """
    fields, offset = [], 0
    for name, length in key:
        fields.append(SapField(name, Kind.CHAR, offset=offset, length=length))
        offset += length
    return SapPlan(tuple(fields))


def options(where: str) -> list[str]:
    """A WHERE clause as rows of OPTIONS: at most 72 characters each, broken at blanks, never inside a literal.

    Raises: ConfigurationError where a word or a literal is longer than a row.
    """
    rows: list[str] = []
    for word in re.findall(r"(?:'[^']*'|[^\s'])+", where):
        if len(word) > OPTION_CHARACTERS:
            raise ConfigurationError(f"OPTIONS: expected words of at most {OPTION_CHARACTERS} characters, found {word}")
        if rows and len(rows[-1]) + 1 + len(word) <= OPTION_CHARACTERS:
            rows[-1] += f" {word}"
        else:
            rows.append(word)
    if where.count("'") % 2:
        raise ConfigurationError(f"OPTIONS: a literal does not end: {where}")
    return rows


def calls(lengths: Sequence[int], key_count: int, *, most: int = ROW_CHARACTERS, delimiter: int = 0) -> list[list[int]]:
    """Which fields to ask for in which call, so that no row is too wide; each call has the key fields in front.

    Args:
        lengths: of the fields in characters, the key fields first.
        key_count: how many of them are the key.
        most: characters a row holds.
        delimiter: 1 where the call asks for a delimiter.
    Raises: ConfigurationError for a field that does not fit behind the key.
    """
    key = list(range(key_count))
    width = sum(lengths[:key_count]) + delimiter * max(0, key_count - 1)
    if width > most:
        raise ConfigurationError(f"RFC_READ_TABLE: the key has {width} characters, a row holds {most}")
    found, used = [list(key)], width
    for index in range(key_count, len(lengths)):
        more = lengths[index] + (delimiter if index else 0)
        if width + more > most:
            raise ConfigurationError(
                f"RFC_READ_TABLE: field {index} has {lengths[index]} characters, {most - width} are left behind the key"
            )
        if used + more > most:
            found.append(list(key))
            used = width
        found[-1].append(index)
        used += more
    return found


def delta_token(url: str) -> str:
    """The token in a delta link of OData V2 (!deltatoken='...') or V4 ($deltatoken=...). Raises HeadraceError."""
    match = re.search(r"[!$]deltatoken='?([^'&]+)'?", url)
    if match is None:
        raise HeadraceError(f"delta link: expected !deltatoken='...' or $deltatoken=..., found {url}")
    return match[1]


def rejoin(parts: Sequence[pa.RecordBatch], key: Sequence[str]) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Rows that were read in several calls, each with the key columns and some others, put together by key.

    A row that the system inserted or deleted between the calls lacks a part: it is not in the first result, but its key
    is in the second, to be read again. Of rows of a part with one key the last counts.

    Args:
        parts: at least one; the key columns in each, of the same types, every other column in one of them.
        key: at least one column.
    Returns: the whole rows, columns in the order of the parts; and the keys of the others.
    Raises: HeadraceError where the columns are not so.
    """
    fields = {field.name: field for part in reversed(parts) for field in part.schema}
    others = [name for part in parts for name in part.schema.names if name not in key]
    wrong = [part for part in parts for name in key if name not in part.schema.names]
    wrong = wrong or [part for part in parts for name in key if part.schema.field(name).type != fields[name].type]
    if not parts or not key or wrong or len(set(others)) < len(others):
        raise HeadraceError(f"rejoin: expected the key {list(key)} in each part, and every other column in one of them")
    names = [*key, *others]
    # compact asks for names and places of the columns alone, Arrow has their types
    table = Table("rejoin", tuple(Column(name, ColumnType("bytes")) for name in names), tuple(key))
    schema = pa.schema(
        [pa.field(name, fields[name].type) for name in names]
        + [pa.field(OP, pa.int8()), pa.field(POSITION, POSITION_TYPE), pa.field(SOURCE_TS, SOURCE_TS_TYPE)]
        + [pa.field(UNSET, pa.binary(unset_bytes(table)))]
    )
    batches = [_as_changes(part, number, names, schema) for number, part in enumerate(parts)]
    whole = compact(pa.concat_batches(batches), table)
    if UNSET not in whole.schema.names:
        return whole.select(names), whole.select(list(key)).slice(0, 0)
    nothing = pa.scalar(bytes(unset_bytes(table)), schema.field(UNSET).type)
    complete = pc.equal(whole.column(UNSET), nothing)
    return whole.filter(complete).select(names), whole.filter(pc.invert(complete)).select(list(key))


def _as_changes(part: pa.RecordBatch, number: int, names: list[str], schema: pa.Schema) -> pa.RecordBatch:
    """The rows of a part as upserts that lack the columns of the other parts."""
    rows = part.num_rows
    own = set(part.schema.names)
    lacking = sum(1 << index for index, name in enumerate(names) if name not in own)
    width = schema.field(UNSET).type.byte_width
    columns = [part.column(name) if name in own else pa.nulls(rows, schema.field(name).type) for name in names]
    columns += [
        pa.repeat(pa.scalar(int(Op.UPSERT), pa.int8()), rows),
        pa.repeat(pa.scalar(number.to_bytes(32, "big"), POSITION_TYPE), rows),
        pa.nulls(rows, SOURCE_TS_TYPE),
        pa.repeat(pa.scalar(lacking.to_bytes(width, "little"), pa.binary(width)), rows),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)
