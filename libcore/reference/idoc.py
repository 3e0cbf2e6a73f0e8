"""IDocs in XML to the rows of their segments, one element at a time.

A segment is an element with an attribute SEGMENT; its fields are elements without one, and stand in front of the
segments inside it. SEGNUM counts the segments of an IDoc from 1, PSGNUM is the parent's (0 for none), HLEVEL the depth
from 1: XML does not write them. A field that is left out is empty, as blanks of a flat IDoc are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.parsers import expat

import pyarrow as pa

from libcore.delimited_types import LineCode, TextColumn
from libcore.reference.delimited import RawError
from libcore.reference.delimited_cells import Cells, Escapes, Fault, Field

DEPTH_MAX = 64
_HEAD = ("DOCNUM", "SEGNUM", "PSGNUM", "HLEVEL")


@dataclass
class _Segment:
    """An open segment: its kind (-1: nobody named it), its number, its fields so far, and where it begins."""

    name: str
    kind: int
    number: int
    parent: int
    level: int
    offset: int
    fields: dict[str, tuple[str, int]] = field(default_factory=dict)
    taken: bool = False


class _Document:
    """The handlers of one document; rows wait in `rows` until the document is known to be well-formed."""

    def __init__(self, kinds: dict[str, int], ignore: bool, control: str) -> None:
        self._kinds, self._ignore, self._control = kinds, ignore, control
        self._open: list[tuple[str, _Segment | None]] = []
        self._docnum, self._number, self._text_at = "", 0, 0
        self._text: list[str] = []
        self.rows: list[_Segment] = []
        self.docnums: list[str] = []
        self.ignored = 0
        self.parser = parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        parser.CharacterDataHandler, parser.StartDoctypeDeclHandler = self._characters, self._doctype

    def _fault(self, code: LineCode) -> Fault:
        return Fault(code, self.parser.CurrentByteIndex)

    def _doctype(self, *_: object) -> None:
        raise self._fault(LineCode.SYNTAX)  # entities of a document's own could grow without bound

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if len(self._open) == DEPTH_MAX:
            raise self._fault(LineCode.DEPTH)
        segments = [segment for _, segment in self._open if segment is not None]
        self._text, self._text_at = [], self.parser.CurrentByteIndex
        if "SEGMENT" not in attributes:
            if segments and (segments[-1].taken or self._open[-1][1] is None):
                raise self._fault(LineCode.SYNTAX)  # a field behind a segment, or inside a field
            if name == "IDOC":
                self._docnum, self._number = "", 0
            self._open.append((name, None))
            return
        if segments:
            self._take(segments[-1])
        if name != self._control:
            self._number += 1
        parent = segments[-1].number if segments else 0
        number = 0 if name == self._control else self._number
        at = self.parser.CurrentByteIndex
        self._open.append((name, _Segment(name, self._kinds.get(name, -1), number, parent, len(segments) + 1, at)))

    def _characters(self, text: str) -> None:
        self._text.append(text)

    def _end(self, name: str) -> None:
        _, segment = self._open.pop()
        if segment is not None:
            self._take(segment)
        elif self._open and (parent := self._open[-1][1]) is not None:
            text = "".join(self._text)
            if name in parent.fields:
                raise self._fault(LineCode.SYNTAX)
            parent.fields[name] = (text, self._text_at)
            if parent.name == self._control and name == "DOCNUM":
                self._docnum = text
        self._text = []

    def _take(self, segment: _Segment) -> None:
        if segment.taken:
            return
        segment.taken = True
        self.rows.append(segment)
        self.docnums.append(self._docnum)


def read_xml(
    names: Sequence[str], columns: Sequence[tuple[TextColumn, ...]], ignore: bool, documents: list[bytes], control: str
) -> tuple[list[pa.RecordBatch], list[RawError], int]:
    """Rows of each name, errors (line: the document's index), and how many segments nobody named.

    Columns named DOCNUM, SEGNUM, PSGNUM and HLEVEL of segments are filled from the tree, all others from fields.
    """
    cells = [Cells(each, Escapes(), None, "utf-8") for each in columns]
    kinds = {name: number for number, name in enumerate(names)}
    errors: list[RawError] = []
    ignored = 0
    for index, data in enumerate(documents):
        document = _Document(kinds, ignore, control)
        try:
            data.decode("utf-8")
            document.parser.Parse(data, True)
        except UnicodeDecodeError as error:
            errors.append(RawError(index, 0, len(data), error.start, LineCode.UTF8))
            continue
        except Fault as fault:
            errors.append(RawError(index, 0, len(data), fault.position, fault.code))
            continue
        except expat.ExpatError:
            at = min(document.parser.ErrorByteIndex, len(data))
            errors.append(RawError(index, 0, len(data), at, LineCode.SYNTAX))
            continue
        for segment, docnum in zip(document.rows, document.docnums, strict=True):
            if segment.kind < 0:
                ignored += 1
                if not ignore:
                    errors.append(RawError(index, 0, len(data), segment.offset, LineCode.KIND))
                continue
            try:
                cells[segment.kind].take(
                    _fields(columns[segment.kind], segment, docnum, control), index, segment.offset
                )
            except Fault as fault:
                errors.append(RawError(index, 0, len(data), fault.position, fault.code, fault.column, segment.kind))
    return [each.record() for each in cells], errors, ignored if ignore else 0


def _fields(columns: tuple[TextColumn, ...], segment: _Segment, docnum: str, control: str) -> list[Field]:
    tree = (docnum, str(segment.number), str(segment.parent), str(segment.level))
    head = {} if segment.name == control else dict(zip(_HEAD, tree, strict=True))
    fields = []
    for text in columns:
        name = text.source if text.source is not None else text.column.name
        value, at = segment.fields.get(name, ("", segment.offset))
        fields.append(Field(head.get(text.column.name, value).encode(), at))
    return fields
