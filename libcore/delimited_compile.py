"""Plans of text records as C reads them, and what C answers as Python's words; shared by the faces of delimited files,
fixed-width files and IDocs."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, TypeVar

import pyarrow as pa

from libcore import arrow_c
from libcore.delimited_types import (
    LINE,
    OFFSET,
    LineCode,
    LineError,
    TextColumn,
    TextRead,
    TextState,
    code_points,
    codec,
    encoded,
)
from libcore.reference.delimited import RawError

_REASONS = {
    LineCode.SYNTAX: "not well-formed XML",
    LineCode.UTF8: "bytes that are no text in the encoding",
    LineCode.DEPTH: "nested too deep",
    LineCode.TYPE: "the text is no such value",
    LineCode.RANGE: "the value is out of range",
    LineCode.SCALE: "the value has more fraction digits than the column keeps",
    LineCode.QUOTE: "text behind a closing quote, or a quote that does not close",
    LineCode.FIELDS: "too few or too many fields",
    LineCode.LONG: "the record is longer than record_bytes_max",
    LineCode.NULL: "no value in a column that must have one",
    LineCode.KIND: "a record of no kind that the plan names",
}
_Plan = TypeVar("_Plan")
_Compiled = TypeVar("_Compiled")


def describe(code: LineCode, position: int, raw: bytes, column: TextColumn | None) -> str:
    """One sentence for a person: where, what was expected, the bytes found."""
    where = "" if column is None else f"column {column.column.name} ({column.column.type}): "
    found = raw[position : position + 40].decode("utf-8", "backslashreplace")
    return f"{where}{_REASONS[code]}; found {found!r} at byte {position} of {len(raw)}"


class Memory:
    """C memory of a compiled plan, alive as long as this object."""

    def __init__(self) -> None:
        self._kept: list[Any] = []

    def bytes(self, data: bytes) -> Any:
        """A copy of the bytes."""
        memory = arrow_c.ffi.new("uint8_t[]", data or b"\0")
        self._kept.append(memory)
        return memory

    def words(self, words: tuple[str, ...], encoding: str) -> tuple[Any, int]:
        """(a run of length and word, its size)."""
        run = b"".join(len(word).to_bytes(2, "little") + word for word in encoded(words, encoding))
        return self.bytes(run), len(run)

    def new(self, c_type: str, size: Any = None) -> Any:
        """A zeroed object or array."""
        made = arrow_c.ffi.new(c_type) if size is None else arrow_c.ffi.new(c_type, size)
        self._kept.append(made)
        return made

    def encoding(self, name: str) -> Any:
        """The table of a single-byte encoding, NULL for UTF-8."""
        points = code_points(name)
        return arrow_c.ffi.NULL if points is None else self.new("uint16_t[]", list(points))

    def columns(self, columns: tuple[TextColumn, ...], encoding: str, indexes: tuple[int, ...] = ()) -> Any:
        """The lc_text_column array; `indexes` are the fields of a delimited file."""
        targets = self.new("lc_text_column[]", max(1, len(columns)))
        for number, (target, text) in enumerate(zip(targets, columns, strict=False)):
            layout = target.layout
            layout.type, layout.width, layout.precision, layout.scale = arrow_c.layout(text.column.type.arrow)
            target.kind, target.digits, target.required = int(text.kind), text.digits, not text.column.nullable
            target.trim, target.decimal, target.trailing_sign = int(text.trim), ord(text.decimal), text.trailing_sign
            target.implied, target.field = text.implied_decimals, indexes[number] if indexes else 0
            thousands, items = text.thousands.encode(codec(encoding)), text.items
            target.thousands, target.thousands_size = self.bytes(thousands), len(thousands)
            target.pattern, target.pattern_size = self.bytes(items), len(items)
            target.null_words, target.null_size = self.words(text.null_words, encoding)
            target.true_words, target.true_size = self.words(text.true_words, encoding)
            target.false_words, target.false_size = self.words(text.false_words, encoding)
            target.offset, target.length = text.offset, text.length
        return targets


class Cache:
    """Compiled plans by the plan's identity and a second word: hashing a plan would cost more than a small piece."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[int, Any], Any] = {}

    def get(self, plan: Any, extra: Any, make: Callable[[], _Compiled]) -> _Compiled:
        """The compiled plan, made at the first call."""
        found: _Compiled | None = self._compiled.get((id(plan), extra))
        if found is None:
            found = self._compiled[id(plan), extra] = make()
            weakref.finalize(plan, self._compiled.pop, (id(plan), extra), None)
        return found


def c_state(state: TextState, skip_lines: int) -> Any:
    """The lc_text_state of a state."""
    made = arrow_c.ffi.new("lc_text_state *")
    made.line, made.skip, made.skipping = state.line, max(0, skip_lines - state.skipped), state.skipping
    return made


def py_state(before: TextState, read: Any, skip_lines: int) -> TextState:
    """The state behind what C read."""
    return TextState(
        before.offset + read.consumed,
        read.state.line,
        bool(read.state.skipping),
        max(before.skipped, skip_lines - read.state.skip),
        before.header,
    )


def raw_errors(read: Any) -> list[RawError]:
    """C's errors as the reference lists them."""
    found = (read.errors[i] for i in range(read.error_count))
    return [RawError(e.line, e.offset, e.size, e.position, LineCode(e.code), e.column, e.kind) for e in found]


def line_errors(
    raw: list[RawError], piece: memoryview, base: int, columns_of: Callable[[int], tuple[TextColumn, ...]],
    kinds: tuple[str, ...] = (),
) -> list[LineError]:  # fmt: skip
    """Errors for people; `base` is the file's byte where the piece begins, columns_of gives a kind's columns."""
    errors = []
    for error in raw:
        record = bytes(piece[error.offset : error.offset + error.size])
        column = None if error.column < 0 else columns_of(error.kind)[error.column]
        errors.append(
            LineError(
                error.line,
                base + error.offset,
                error.position,
                error.code,
                describe(error.code, error.position, record, column),
                record,
                "" if column is None else column.column.name,
                kinds[error.kind] if error.kind >= 0 else "",
            )
        )
    return errors


def text_read(record: pa.RecordBatch, base: int, errors: list[LineError], consumed: int, state: TextState) -> TextRead:
    """Split a record with __line and __offset into what a caller gets."""
    offsets = record.column(OFFSET)
    if base:
        import pyarrow.compute as pc

        offsets = pc.add(offsets, pa.scalar(base, pa.int64()))
    return TextRead(record.drop_columns([LINE, OFFSET]), record.column(LINE), offsets, errors, consumed, state)
