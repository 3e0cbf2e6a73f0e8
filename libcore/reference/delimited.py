"""Records of delimited and fixed-width files, byte by byte: the reference of libcore.delimited and libcore.fixed_width.

A chunk's answer must not depend on where the file was cut, so each step either takes a whole thing or asks for more.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import pyarrow as pa

from libcore.delimited_types import (
    DelimitedPlan,
    Dialect,
    FixedPlan,
    LineCode,
    RecordKind,
    TextState,
    code_points,
    codec,
)
from libcore.reference.delimited_cells import Cells, Escapes, Fault, Field, unescape

_LINE_END = re.compile(rb"[\r\n]")


@dataclass(frozen=True)
class RawError:
    """A record that gave no row: line, offset in the piece, size, byte in the record, code, column, kind."""

    line: int
    offset: int
    size: int
    position: int
    code: LineCode
    column: int = -1
    kind: int = -1


@dataclass
class RawRead:
    """What a piece gave: the rows of each kind, errors, the bytes consumed and the state behind them."""

    records: list[pa.RecordBatch]
    errors: list[RawError]
    consumed: int
    state: TextState
    ignored: int = 0


class More(Exception):
    """The record's end is not in this piece."""


@dataclass(frozen=True)
class Split:
    """A record: its fields, its end without the line end, the next one's begin, the first byte that breaks the rules of
    quotes or -1."""

    fields: list[Field]
    stop: int
    next: int
    problem: int = -1


class TooLong(Exception):
    """No line end in front of the longest record's end; `quote` is where an open quote begins, or -1."""

    def __init__(self, quote: int = -1) -> None:
        self.quote = quote
        super().__init__("too long")


def line_ends(data: bytes) -> int:
    """Line ends in a text: LF, CRLF, CR."""
    return data.count(b"\n") + data.count(b"\r") - data.count(b"\r\n")


def behind_line_end(data: bytes, at: int, final: bool) -> int:
    """The byte behind the line end at `at`. Raises More where it is not known whether LF follows CR."""
    if data[at] == 13:
        if at + 1 == len(data) and not final:
            raise More
        if data[at + 1 : at + 2] == b"\n":
            return at + 2
    return at + 1


def find_line_end(data: bytes, at: int) -> int:
    """The next LF or CR, or the end."""
    match = _LINE_END.search(data, at)
    return len(data) if match is None else match.start()


def escapes_of(dialect: Dialect) -> Escapes:
    """The dialect's signs as bytes."""
    return Escapes(
        (dialect.quote or "").encode(), (dialect.escape or "").encode(), dialect.doubled, dialect.c_escapes,
        dialect.quoted_nulls,
    )  # fmt: skip


def split_record(dialect: Dialect, data: bytes, start: int, final: bool) -> Split:
    """Take the record at `start` apart. Raises More and TooLong."""
    bounded = len(data) - start > dialect.record_bytes_max
    window = start + dialect.record_bytes_max + 1 if bounded else len(data)
    fields, p, problem = [], start, -1
    delimiter, escapes = dialect.delimiter.encode(), escapes_of(dialect)
    while True:
        if escapes.quote and p < window and data[p : p + 1] == escapes.quote:
            field, p, stray = _quoted(dialect, escapes, data, p, start, window, bounded, final)
            problem = stray if problem < 0 else problem
        else:
            end, escaped = _plain(delimiter, escapes, data, p, window)
            field, p = Field(data[p:end], p - start, escaped=escaped), end
        fields.append(field)
        if p >= window:
            if bounded:
                raise TooLong
            if not final:
                raise More
            return Split(fields, p, p, problem)
        if data[p : p + 1] == delimiter:
            p += 1
            continue
        return Split(fields, p, behind_line_end(data, p, final), problem)


def _plain(delimiter: bytes, escapes: Escapes, data: bytes, p: int, window: int) -> tuple[int, bool]:
    """(delimiter or line end behind an unquoted piece, whether there are escapes in it)."""
    escaped = False
    while p < window and data[p : p + 1] not in (delimiter, b"\r", b"\n"):
        if data[p : p + 1] == escapes.escape:
            escaped, p = True, p + 1
        p += 1
    return min(p, window), escaped


def _quoted(
    dialect: Dialect, escapes: Escapes, data: bytes, p: int, start: int, window: int, bounded: bool, final: bool
) -> tuple[Field, int, int]:
    """(the field, the delimiter or line end behind it, the byte behind a quote that should have closed it or -1)."""
    first, escaped, q = p + 1, False, p + 1
    delimiter = dialect.delimiter.encode()
    while q < window:
        sign, following = data[q : q + 1], data[q + 1 : q + 2] if q + 1 < window else b""
        if sign == escapes.escape or (sign == escapes.quote and escapes.doubled and following == sign):
            escaped, q = True, q + 2
            continue
        if sign == escapes.quote:
            field = Field(data[first:q], first - start, True, escaped)
            if following in (b"", delimiter, b"\r", b"\n"):
                return field, q + 1, -1
            if not dialect.lazy_quotes:
                end, _ = _plain(delimiter, escapes, data, q + 1, window)
                return field, end, q + 1
        q += 1
    if not bounded and not final:
        raise More
    raise TooLong(p)


class _Walk:
    """What delimited and fixed-width files have in common: lines that are no records, and what a record gives."""

    def __init__(self, data: bytes, state: TextState, final: bool, skip_lines: int) -> None:
        self.data, self.final, self.p = data, final, 0
        self.line, self.skipping = state.line, state.skipping
        self.skipped, self.skip_lines = state.skipped, skip_lines
        self.state = state
        self.errors: list[RawError] = []

    def passes(self, comment: bytes, skip_blank: bool) -> bool:
        """Whether a line was passed by; raises More inside of one."""
        data = self.data
        if not self.skipping:
            byte = data[self.p : self.p + 1]
            if self.skipped < self.skip_lines:
                self.skipped += 1
            elif not (comment and byte == comment):
                if not skip_blank or byte not in (b"\r", b"\n"):
                    return False
                behind_line_end(data, self.p, self.final)
            self.skipping = True
        self.p = find_line_end(data, self.p)
        if self.p == len(data):
            self.skipping = not self.final
            if self.final:
                return True
            raise More
        self.p = behind_line_end(data, self.p, self.final)
        self.line, self.skipping = self.line + 1, False
        return True

    def error(self, size: int, fault: Fault, kind: int = -1) -> None:
        """List a record that gives no row."""
        self.errors.append(RawError(self.line, self.p, size, fault.position, fault.code, fault.column, kind))

    def read(self, records: list[pa.RecordBatch], ignored: int = 0) -> RawRead:
        """What the piece gave."""
        self.skipping = self.skipping and not (self.final and self.p == len(self.data))
        state = replace(
            self.state, offset=self.state.offset + self.p, line=self.line, skipping=self.skipping, skipped=self.skipped
        )
        return RawRead(records, self.errors, self.p, state, ignored)


def read_delimited(
    plan: DelimitedPlan,
    indexes: tuple[int, ...],
    fields: int,
    data: bytes,
    state: TextState,
    final: bool,
    rows_max: int,
) -> RawRead:
    """Records of a piece; `indexes` are the columns' fields, `fields` how many a record has (0: enough of them)."""
    dialect = plan.dialect
    walk = _Walk(data, state, final, dialect.skip_lines)
    cells = Cells(plan.columns, escapes_of(dialect), code_points(dialect.encoding), dialect.encoding)
    needed = fields or max(indexes, default=-1) + 1

    def take(split: Split) -> None:
        size = split.stop - walk.p
        if split.problem >= 0:
            raise Fault(LineCode.QUOTE, split.problem - walk.p)
        found = split.fields
        if dialect.trailing_delimiter and fields and len(found) == fields + 1:
            last = found[-1]
            found = found[:-1] if not last.raw and not last.quoted else found
        if len(found) < needed:
            raise Fault(LineCode.FIELDS, size)
        if fields and len(found) > fields:
            raise Fault(LineCode.FIELDS, found[fields].position)
        cells.take([found[index] for index in indexes], walk.line, walk.p)

    with suppress(More):  # the rest of the piece comes again in front of the next
        while walk.p < len(data) and cells.rows < rows_max:
            if not walk.passes((dialect.comment or "").encode(), dialect.skip_blank):
                _step(walk, dialect, take)
    return walk.read([cells.record()])


def _step(walk: _Walk, dialect: Dialect, take: Callable[[Split], None]) -> None:
    data, start = walk.data, walk.p
    try:
        split = split_record(dialect, data, start, walk.final)
    except TooLong as long:
        window = min(len(data), start + dialect.record_bytes_max + 1)
        size = min(find_line_end(data[:window], start) - start, dialect.record_bytes_max)
        quote = long.quote >= 0
        walk.error(size, Fault(LineCode.QUOTE, long.quote - start) if quote else Fault(LineCode.LONG))
        walk.skipping = True
        return
    try:
        take(split)
    except Fault as fault:
        walk.error(split.stop - start, fault)
    walk.line += (split.next > split.stop) + line_ends(data[start : split.stop])
    walk.p = split.next


def read_header(dialect: Dialect, data: bytes, state: TextState, final: bool) -> tuple[list[str] | None, RawRead]:
    """The names in the file's first record, None where it is not whole yet. Raises Fault where it cannot be read."""
    walk, names = _Walk(data, state, final, dialect.skip_lines), None
    points, escapes = code_points(dialect.encoding), escapes_of(dialect)
    with suppress(More):
        while names is None and walk.p < len(data):
            if walk.passes((dialect.comment or "").encode(), dialect.skip_blank):
                continue
            try:
                split = split_record(dialect, data, walk.p, final)
            except TooLong as long:
                raise Fault(LineCode.LONG if long.quote < 0 else LineCode.QUOTE) from None
            if split.problem >= 0:
                raise Fault(LineCode.QUOTE, split.problem - walk.p)
            raw = [unescape(escapes, field.raw, field.quoted) for field in split.fields]
            try:
                texts = [part.decode() if points is None else part.decode(dialect.encoding) for part in raw]
            except UnicodeDecodeError:
                raise Fault(LineCode.UTF8) from None
            names = [text.strip(" \t") for text in texts]
            walk.line += (split.next > split.stop) + line_ends(data[walk.p : split.stop])
            walk.p = split.next
    return names, walk.read([])


def read_fixed(plan: FixedPlan, data: bytes, state: TextState, final: bool, rows_max: int) -> RawRead:
    """Records of a piece of a fixed-width file, by kind."""
    walk = _Walk(data, state, final, plan.skip_lines)
    points = code_points(plan.encoding)
    kinds = [Cells(kind.columns, Escapes(), points, plan.encoding) for kind in plan.kinds]
    markers = [kind.marker.encode(codec(plan.encoding)) for kind in plan.kinds]
    characters = plan.characters and points is None
    ignored = 0

    def take(record: bytes) -> None:
        nonlocal ignored
        kind = next((k for k, marker in enumerate(markers) if record.startswith(marker)), -1)
        try:
            if kind < 0 and not plan.ignore_kinds:
                raise Fault(LineCode.KIND)
            ignored += kind < 0
            if kind >= 0:
                fields = _fixed_fields(plan, plan.kinds[kind], record, characters)
                kinds[kind].take(fields, walk.line, walk.p)
        except Fault as fault:
            walk.error(len(record), fault, kind)

    with suppress(More):  # the rest of the piece comes again in front of the next
        while walk.p < len(data) and sum(cells.rows for cells in kinds) < rows_max:
            if plan.record_bytes == 0 and walk.passes(b"", plan.skip_blank):
                continue
            try:
                stop, behind = _fixed_record(plan, walk)
            except TooLong:
                walk.error(plan.record_bytes_max, Fault(LineCode.LONG))
                walk.skipping = True
                continue
            take(data[walk.p : stop])
            walk.line += behind > stop or plan.record_bytes > 0
            walk.p = behind
    return walk.read([cells.record() for cells in kinds], ignored)


def _fixed_record(plan: FixedPlan, walk: _Walk) -> tuple[int, int]:
    """(end, begin of the next) of the record. Raises More and TooLong."""
    data = walk.data
    if plan.record_bytes:
        stop = walk.p + plan.record_bytes
        if stop > len(data):
            if not walk.final:
                raise More
            stop = len(data)
        return stop, stop
    stop = find_line_end(data, walk.p)
    if stop - walk.p > plan.record_bytes_max:
        raise TooLong
    if stop == len(data):
        if not walk.final:
            raise More
        return stop, stop
    return stop, behind_line_end(data, stop, walk.final)


def _fixed_fields(plan: FixedPlan, kind: RecordKind, record: bytes, characters: bool) -> list[Field]:
    """The columns' pieces of a record. Raises Fault."""
    starts = [i for i, byte in enumerate(record) if not characters or byte & 0xC0 != 0x80]
    if characters and plan.utf16_units:
        starts = [i for i in starts for _ in range(2 if record[i] >= 0xF0 else 1)]

    def place(index: int) -> int:
        return starts[index] if index < len(starts) else len(record)

    if not plan.pad_short and len(starts) < kind.size:
        raise Fault(LineCode.FIELDS, len(record))
    if not plan.ignore_rest and record[place(kind.size) :].strip(b" "):
        raise Fault(LineCode.FIELDS, place(kind.size))
    for number, text in enumerate(kind.columns):
        for index in (text.offset, text.offset + text.length):
            if 0 < index < len(starts) and starts[index] == starts[index - 1]:
                raise Fault(LineCode.UTF8, starts[index], number)
    return [
        Field(record[place(text.offset) : place(text.offset + text.length)], place(text.offset))
        for text in kind.columns
    ]
