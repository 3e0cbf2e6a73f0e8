"""SAP IDocs in files: the control record and each segment type to a table of its own.

A flat IDoc (port type file, Unicode or not) is a file of fixed-width lines: EDI_DC40 with 524 characters, then one line
a segment: SEGNAM 30, MANDT 3, DOCNUM 16, SEGNUM 6, PSGNUM 6, HLEVEL 2, SDATA 1000. Blanks at a line's end may be
missing. Amounts have their real decimals already (no shift by currency) and the sign behind: 1998.000-.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, replace

import pyarrow as pa

from libcore.delimited_compile import line_errors, text_read
from libcore.delimited_types import FixedPlan, FixedRead, LineError, RecordKind, TextColumn, TextRead, TextState, Trim
from libcore.errors import ConfigurationError
from libcore.fixed_width import ROWS_MAX, read_fixed
from libcore.reference import idoc as reference
from libcore.schema import Column, parse_type

__all__ = [
    "CONTROL",
    "CONTROL_FIELDS",
    "IdocPlan",
    "IdocSegment",
    "XmlRead",
    "control_columns",
    "read_idoc_flat",
    "read_idoc_xml",
]

CONTROL = "EDI_DC40"
_CONTROL_LENGTHS = (
    ("TABNAM", 10), ("MANDT", 3), ("DOCNUM", 16), ("DOCREL", 4), ("STATUS", 2), ("DIRECT", 1), ("OUTMOD", 1),
    ("EXPRSS", 1), ("TEST", 1), ("IDOCTYP", 30), ("CIMTYP", 30), ("MESTYP", 30), ("MESCOD", 3), ("MESFCT", 3),
    ("STD", 1), ("STDVRS", 6), ("STDMES", 6), ("SNDPOR", 10), ("SNDPRT", 2), ("SNDPFC", 2), ("SNDPRN", 10),
    ("SNDSAD", 21), ("SNDLAD", 70), ("RCVPOR", 10), ("RCVPRT", 2), ("RCVPFC", 2), ("RCVPRN", 10),
    ("RCVSAD", 21), ("RCVLAD", 70), ("CREDAT", 8), ("CRETIM", 6),
    ("REFINT", 14), ("REFGRP", 14), ("REFMES", 14), ("ARCKEY", 70), ("SERIAL", 20),
)  # fmt: skip
CONTROL_FIELDS = {
    name: (sum(length for _, length in _CONTROL_LENGTHS[:i]), size) for i, (name, size) in enumerate(_CONTROL_LENGTHS)
}
"""Offset and length of each field of EDI_DC40, 524 characters in all."""
_SEGNAM_LENGTH, _SDATA_OFFSET, _SDATA_LENGTH = 30, 63, 1000
_START = TextState()


def _column(name: str, kind: str, offset: int, length: int, nullable: bool = True) -> TextColumn:
    return TextColumn(
        Column(name, parse_type(kind), nullable), offset=offset, length=length,
        trim=Trim.RIGHT if kind == "string" else Trim.NONE,
    )  # fmt: skip


def control_columns(*names: str) -> tuple[TextColumn, ...]:
    """Columns of the control record as texts, all of them where none is named. KeyError for an unknown one."""
    return tuple(_column(name, "string", *CONTROL_FIELDS[name]) for name in names or CONTROL_FIELDS)


_HEAD = (
    _column("DOCNUM", "string", 33, 16, False),
    _column("SEGNUM", "int32", 49, 6, False),
    _column("PSGNUM", "int32", 55, 6, False),
    _column("HLEVEL", "int32", 61, 2, False),
)


@dataclass(frozen=True)
class IdocSegment:
    """A segment type.

    Args:
        name: the type, E1EDK01: what the caller calls its table.
        definition: what a flat file names it, E2EDK01005.
        columns: with offset and length inside SDATA, in XML by source or name; texts are best read with Trim.RIGHT.
    """

    name: str
    definition: str
    columns: tuple[TextColumn, ...]


@dataclass(frozen=True)
class IdocPlan:
    """Which segments of IDocs become rows.

    Args:
        segments: at least one.
        control: columns of the control record, from control_columns.
        characters: offsets count characters as ABAP does (files of a Unicode system); else bytes.
        ignore_segments: segments that are not named are counted and passed by; else they are errors.
        encoding: as in Dialect.
    """

    segments: tuple[IdocSegment, ...]
    control: tuple[TextColumn, ...] = control_columns(
        "DOCNUM", "IDOCTYP", "MESTYP", "SNDPRN", "CREDAT", "CRETIM", "SERIAL"
    )
    characters: bool = True
    ignore_segments: bool = False
    encoding: str = "utf-8"


def fixed_plan(plan: IdocPlan) -> FixedPlan:
    """The plan as kinds of fixed-width records: DOCNUM, SEGNUM, PSGNUM, HLEVEL, then the segment's columns.

    Raises ConfigurationError for a column behind SDATA's end, or a definition longer than its field.
    """
    width = sum(length for _, length in _CONTROL_LENGTHS)
    kinds = [RecordKind(CONTROL, plan.control, CONTROL.ljust(10), width)]
    for segment in plan.segments:
        if not 0 < len(segment.definition) <= _SEGNAM_LENGTH:
            raise ConfigurationError(f"segment {segment.name}: definition: expected 1..30 letters")
        for text in segment.columns:
            if text.offset + text.length > _SDATA_LENGTH:
                raise ConfigurationError(f"segment {segment.name}: column {text.column.name} ends behind SDATA's 1000")
        columns = tuple(replace(text, offset=text.offset + _SDATA_OFFSET) for text in segment.columns)
        marker = segment.definition.ljust(_SEGNAM_LENGTH)
        kinds.append(RecordKind(segment.name, _HEAD + columns, marker, _SDATA_OFFSET + _SDATA_LENGTH))
    return FixedPlan(
        tuple(kinds), characters=plan.characters, utf16_units=True, pad_short=True, ignore_kinds=plan.ignore_segments,
        encoding=plan.encoding,
    )  # fmt: skip


_fixed: dict[int, FixedPlan] = {}


def read_idoc_flat(
    plan: IdocPlan,
    piece: bytes | memoryview,
    state: TextState = _START,
    *,
    final: bool = False,
    rows_max: int = ROWS_MAX,
    level: int = 0,
) -> FixedRead:
    """Read the whole lines of a piece of a flat IDoc file, with any number of IDocs in it.

    Args, raises: as libcore.delimited.read_delimited.
    Returns: rows by EDI_DC40 and by segment name; `lines` give the order between the segments.
    """
    fixed = _fixed.get(id(plan))
    if fixed is None:
        fixed = _fixed[id(plan)] = fixed_plan(plan)
        weakref.finalize(plan, _fixed.pop, id(plan), None)
    return read_fixed(fixed, piece, state, final=final, rows_max=rows_max, level=level)


@dataclass(frozen=True)
class XmlRead:
    """What a batch of XML documents gave.

    Args:
        kinds: by EDI_DC40 and segment name: the rows, in `lines` each row's document (0-based), in `offsets` the byte
            of the document where its segment begins.
        errors: `line` is the document, `offset` 0, `raw` the document. A document that is not well-formed gives this
            error and no rows; a segment with a bad value, or of no known type, gives one and the others are rows.
        ignored: segments that nobody named, where the plan ignores them.
    """

    kinds: dict[str, TextRead]
    errors: list[LineError]
    ignored: int


def read_idoc_xml(plan: IdocPlan, documents: pa.BinaryArray) -> XmlRead:
    """Read IDocs in XML, one document or more a call, each with any number of IDOC elements.

    This face is plain Python in both implementations: documents are small and few beside rows of a file.

    Args:
        plan: its columns' offsets and lengths do not count here; definitions neither.
        documents: binary, UTF-8, no NULL; a DOCTYPE is refused.
    Raises: ConfigurationError for the plan.
    """
    fixed = fixed_plan(plan)
    names, columns = [kind.name for kind in fixed.kinds], [kind.columns for kind in fixed.kinds]
    for text in (text for each in columns for text in each):
        text.check()
    texts = documents.to_pylist()
    records, found, ignored = reference.read_xml(names, columns, plan.ignore_segments, texts, CONTROL)
    errors = []
    for error in found:
        errors += line_errors([error], memoryview(texts[error.line]), 0, lambda kind: columns[kind], tuple(names))
    kinds = {n: text_read(record, 0, [], 0, _START) for n, record in zip(names, records, strict=True)}
    return XmlRead(kinds, errors, ignored)
