"""One answer of an entity set -> columns: by Arrow's JSON reader at once, or row by row where something is unusual.

The fast way reads the whole answer by an explicit schema: texts, numbers and decimals come out typed, never by way of a
float. It gives up (and the careful way is taken) on anything it could get wrong: a value of another kind, a bad value,
an entity that was deleted without a row, a property that an entity of a delta lacks (which is UNSET, not NULL).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

from connectors.base.rows import Refused
from connectors.sap.odata_keys import key_of
from connectors.sap.odata_metadata import CHANGE_MODE, COUNTER, EntitySet
from connectors.sap.odata_values import Edm, convert
from libcore.change import Op
from libcore.errors import DataError, FatalError
from libcore.schema import Column, Table

_NEXT, _DELTA = ("@odata.nextLink", "@nextLink"), ("@odata.deltaLink", "@deltaLink")
_COUNT = pa.decimal128(38, 0)
_KEPT, _GONE = ("", "N"), ("X", "D", "R")
"""Record modes: an after image and a new row; a before image, a deletion and a reversal, which take the key away."""
_CHANGE_MODES = ("", "C", "U", "D")
_ODD = {"A": "an additive image, whose figures are differences", "Y": "an image of changed columns alone"}
_INTS: Mapping[str, pa.DataType] = {"int16": pa.int16(), "int32": pa.int32(), "int64": pa.int64()}


@dataclass(frozen=True)
class Page:
    """What one answer holds.

    Args:
        columns: the table's, in its order and exact types; of a deleted row those outside of the key are NULL.
        ops: int8, UPSERT or DELETE, one a row.
        lacking: of each row the set of columns (by index) that it brought no value for; {}: none lacks one.
        refused: rows that could not be read.
        next_link, delta_link: as the server wrote them; "" where there is none.
    """

    columns: list[pa.Array]
    ops: pa.Int8Array
    lacking: dict[int, set[int]] = field(default_factory=dict)
    refused: list[Refused] = field(default_factory=list)
    next_link: str = ""
    delta_link: str = ""

    @property
    def rows(self) -> int:
        """Rows that could be read."""
        return len(self.ops)


class PageDecoder:
    """Reads the answers of one entity set.

    Args:
        entity: as its service describes it. table: columns and key as the pipeline wants them.
    """

    def __init__(self, entity: EntitySet, table: Table) -> None:
        self._entity, self._table = entity, table
        self._edm = [entity.edm.get(column.name, Edm("text", "Edm.String")) for column in table.columns]
        self._keys = [column.name for column in table.columns if column.name in table.key]
        self._schema = self._shape()

    def read(self, body: bytes, *, delta: bool) -> Page:
        """An answer's rows and links; delta: it was asked for by a delta link. Raises FatalError for no answer."""
        if not (delta and self._entity.version == 4) and b'"deleted"' not in body:
            page = self._fast(body, delta)
            if page is not None:
                return page
        return self._careful(body, delta)

    # -- all rows at once

    def _shape(self) -> pa.Schema:
        fields = [
            pa.field(column.name, _wire_type(column, edm, self._entity.version))
            for column, edm in zip(self._table.columns, self._edm, strict=True)
        ]
        if self._entity.queued:
            marks = [CHANGE_MODE, self._entity.record_mode] if self._entity.record_mode else [CHANGE_MODE]
            fields += [*(pa.field(name, pa.utf8()) for name in marks), pa.field(COUNTER, _COUNT)]
        rows = pa.list_(pa.struct(fields))
        if self._entity.version == 2:
            answer = pa.struct([("results", rows), ("__next", pa.utf8()), ("__delta", pa.utf8())])
            return pa.schema([("d", answer)])
        return pa.schema([("value", rows), *((name, pa.utf8()) for name in (*_NEXT, *_DELTA))])

    def _fast(self, body: bytes, delta: bool) -> Page | None:
        try:
            found = arrow_json.read_json(
                pa.BufferReader(body),
                read_options=arrow_json.ReadOptions(block_size=len(body) + 1, use_threads=False),
                parse_options=arrow_json.ParseOptions(
                    explicit_schema=self._schema, newlines_in_values=True, unexpected_field_behavior="ignore"
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        if found.num_rows != 1:
            return None
        top = found.to_batches()[0]
        if self._entity.version == 2:
            answer = top.column("d")
            listed, links = answer.field("results"), (_one(answer.field("__next")), _one(answer.field("__delta")))
            listed = listed if answer[0].is_valid else pa.nulls(1, listed.type)
        else:
            listed = top.column("value")
            links = (_first(top, _NEXT), _first(top, _DELTA))
        if not listed[0].is_valid:
            return None
        return self._columns(listed.flatten(), body, links, delta)

    def _columns(self, rows: pa.StructArray, body: bytes, links: tuple[str, str], delta: bool) -> Page | None:
        ops = self._ops(rows)
        if ops is None:
            return None
        deleted = pc.equal(ops, pa.scalar(int(Op.DELETE), pa.int8()))
        gone = pc.any(deleted).as_py()
        columns = []
        for column, edm in zip(self._table.columns, self._edm, strict=True):
            values = rows.field(column.name)
            if values.null_count and (column.name in self._table.key or (delta and self._lacks(values, column, body))):
                return None
            array, bad = convert(_counted(values), column, edm)
            if bad or (array.null_count and not column.nullable):
                return None
            if gone and column.name not in self._table.key:
                array = pc.if_else(deleted, pa.scalar(None, array.type), array)
            columns.append(array)
        return Page(columns, ops, next_link=links[0], delta_link=links[1])

    def _lacks(self, values: pa.Array, column: Column, body: bytes) -> bool:
        """Whether a null may be a property that is not there at all: each one that is stands there as null."""
        name = json.dumps(column.name).encode()
        return body.count(name + b":null") + body.count(name + b": null") < values.null_count

    def _ops(self, rows: pa.StructArray) -> pa.Int8Array | None:
        """What each row is; None where one has a mark that is not known."""
        if not self._entity.queued:
            return pa.repeat(pa.scalar(int(Op.UPSERT), pa.int8()), len(rows))
        mode, count = pc.fill_null(rows.field(CHANGE_MODE), ""), pc.fill_null(rows.field(COUNTER), 0)
        # a before image (a counter of -1) takes the row away that its after image brings again, perhaps by another key
        removed = pc.or_(pc.equal(mode, "D"), pc.equal(count, -1))
        known = pc.and_(_among(mode, _CHANGE_MODES), pc.less_equal(pc.abs(count), 1))
        if self._entity.record_mode:
            image = pc.utf8_trim(pc.fill_null(rows.field(self._entity.record_mode), ""), " ")
            known = pc.and_(known, _among(image, (*_KEPT, *_GONE)))
            removed = pc.or_(removed, _among(image, _GONE))
        if not pc.all(known, min_count=0).as_py():
            return None
        return pc.if_else(removed, pa.scalar(int(Op.DELETE), pa.int8()), pa.scalar(int(Op.UPSERT), pa.int8()))

    # -- row by row

    def _careful(self, body: bytes, delta: bool) -> Page:
        rows, links = self._parsed(body)
        kept: list[dict[str, Any]] = []
        ops: list[int] = []
        refused: list[Refused] = []
        for row in rows:
            try:
                gone = self._removed(row)
                kept.append(self._keyed(row) if gone else row)
                ops.append(int(Op.DELETE if gone else Op.UPSERT))
            except DataError as error:
                refused.append(self._refused(row, error.message))
        columns, bad = self._converted(kept, ops)
        lacking = self._lacking(kept, ops) if delta else {}
        if bad:
            refused += [self._refused(kept[row], bad[row]) for row in sorted(bad)]
            good = pa.array([row not in bad for row in range(len(kept))])
            columns = [array.filter(good) for array in columns]
            order = [row for row in range(len(kept)) if row not in bad]
            lacking = {place: lacking[row] for place, row in enumerate(order) if row in lacking}
            ops = [ops[row] for row in order]
        return Page(columns, pa.array(ops, pa.int8()), lacking, refused, *links)

    def _parsed(self, body: bytes) -> tuple[list[dict[str, Any]], tuple[str, str]]:
        try:
            found = json.loads(body, parse_float=str, parse_int=str, parse_constant=_refuse)
            answer = found["d"] if self._entity.version == 2 else found
            if isinstance(answer, list):  # of services of OData 1
                answer = {"results": answer}
            rows = answer["results" if self._entity.version == 2 else "value"]
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise ValueError("no list of entities")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise FatalError(
                f"entity set {self._table.name}: expected an answer with entities, found {body[:120]!r} ({error})"
            ) from error
        if self._entity.version == 2:
            return rows, (answer.get("__next") or "", answer.get("__delta") or "")
        next_link, delta_link = ([answer[name] for name in names if answer.get(name)] for names in (_NEXT, _DELTA))
        return rows, ((next_link or [""])[0], (delta_link or [""])[0])

    def _removed(self, row: Mapping[str, Any]) -> bool:
        if self._entity.queued and self._taken_away(row):
            return True
        if self._entity.version == 2:
            about = row.get("__metadata")
            return isinstance(about, dict) and about.get("deleted") is True
        context = row.get("@odata.context") or row.get("@context") or ""
        return "@removed" in row or "@odata.removed" in row or str(context).endswith("/$deletedEntity")

    def _taken_away(self, row: Mapping[str, Any]) -> bool:
        """Whether ODP's marks say that a key goes. Raises DataError for marks that say neither that nor a row."""
        mode, count = str(row.get(CHANGE_MODE) or ""), str(row.get(COUNTER) or "0")
        image = str(row.get(self._entity.record_mode) or "").strip(" ")
        if mode not in _CHANGE_MODES:
            raise DataError(f"{CHANGE_MODE}: expected one of {', '.join(_CHANGE_MODES[1:])} or none, found {mode!r}")
        if count not in ("-1", "0", "1"):
            raise DataError(f"{COUNTER}: expected -1, 0 or 1, found {count}: a sum of several rows")
        if image not in (*_KEPT, *_GONE):
            raise DataError(
                f"{self._entity.record_mode}: expected a whole row, found {image!r}, {_ODD.get(image, 'not known')}: "
                "the DataSource needs a delta that overwrites"
            )
        return mode == "D" or count == "-1" or image in _GONE

    def _keyed(self, row: dict[str, Any]) -> dict[str, Any]:
        """A deleted entity's key: its properties where they stand there, else those of its address."""
        if all(row.get(name) is not None for name in self._keys):
            return {name: row[name] for name in self._keys}
        about = row.get("__metadata") or row
        address = next((about[name] for name in ("uri", "id", "@id", "@odata.id") if about.get(name)), "")
        return dict(key_of(str(address), self._keys))

    def _converted(self, rows: Sequence[dict[str, Any]], ops: Sequence[int]) -> tuple[list[pa.Array], dict[int, str]]:
        columns, bad = [], {}
        for column, edm in zip(self._table.columns, self._edm, strict=True):
            texts = []
            for number, row in enumerate(rows):
                value = row.get(column.name)
                if isinstance(value, bool):
                    value = "true" if value else "false"
                elif isinstance(value, dict | list):
                    bad[number] = f"column {column.name}: expected {column.type}, found {json.dumps(value)[:60]}"
                    value = None
                if value is None and not column.nullable and (column.name in self._keys or ops[number] != Op.DELETE):
                    bad.setdefault(number, f"column {column.name}: expected a value, found NULL")
                texts.append(value)
            array, faults = convert(pa.array(_clean(texts, column, bad), pa.utf8()), column, edm)
            columns.append(array)
            bad = faults | bad
        return columns, bad

    def _lacking(self, rows: Sequence[dict[str, Any]], ops: Sequence[int]) -> dict[int, set[int]]:
        found = {}
        for number, row in enumerate(rows):
            if ops[number] != Op.DELETE:
                absent = {index for index, column in enumerate(self._table.columns) if column.name not in row}
                if absent:
                    found[number] = absent
        return found

    def _refused(self, row: Mapping[str, Any], error: str) -> Refused:
        name = self._table.name
        key = {key: row[key] for key in self._table.key if row.get(key) is not None}
        text = json.dumps(key) if len(key) == len(self._table.key) else None
        return Refused(name, -1, f"entity set {name}: {error}", json.dumps(row).encode(), text)


def _wire_type(column: Column, edm: Edm, version: int) -> pa.DataType:
    """What Arrow's reader makes of it: the exact type where JSON has it as such, else its text."""
    name = column.type.name
    if edm.form == "number" and name == "decimal":
        return column.type.arrow
    if edm.form == "int" and name in _INTS:
        return _COUNT if edm.name == "Edm.Int64" else _INTS[name]
    if edm.form == "float" and name == "float64" and version == 4:
        return pa.float64()
    if edm.form == "bool" and name == "bool":
        return pa.bool_()
    return pa.utf8()


def _among(values: pa.StringArray, some: Sequence[str]) -> pa.BooleanArray:
    return pc.is_in(values, value_set=pa.array(some, pa.utf8()))


def _counted(values: pa.Array) -> pa.Array:
    """64-bit integers, which come as texts or as numbers: a decimal is what Arrow takes both for."""
    return values.cast(pa.utf8()) if values.type == _COUNT else values


def _clean(texts: list[Any], column: Column, bad: dict[int, str]) -> list[Any]:
    """Texts without lone surrogates, which no UTF-8 has."""
    for number, text in enumerate(texts):
        if text is not None and not text.isascii() and any("\ud800" <= one <= "\udfff" for one in text):
            bad.setdefault(number, f"column {column.name}: expected text, found a lone surrogate")
            texts[number] = None
    return texts


def _one(values: pa.Array) -> str:
    return values[0].as_py() or ""


def _first(top: pa.RecordBatch, names: Sequence[str]) -> str:
    return next((one for name in names if (one := _one(top.column(name)))), "")


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
