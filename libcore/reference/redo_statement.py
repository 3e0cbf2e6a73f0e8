"""A redo statement taken apart with regular expressions, token by token; part of the reference of libcore.redo."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from libcore.redo_types import RedoCode

_BLANKS = re.compile(rb"[ \t\n\r]*")
_NAME = re.compile(rb"[A-Za-z0-9_$#\x80-\xff]+")
_QUOTED = re.compile(rb'"([^"]*)"')
_NUMBER = re.compile(rb"[0-9+\-.][A-Za-z0-9+\-.]*")
_TEXT = re.compile(rb"'((?:[^']|'')*)'(?!')")
_COMMENT = re.compile(rb"/\*(.*?)\*/", re.S)
_JSON = re.compile(rb"[ \t\n\r]*json[ \t\n\r]*", re.I)
_WORDS = (b"true", b"false", b"nan", b"inf", b"infinity")
_FUNCTIONS = (
    b"unistr", b"hextoraw", b"to_date", b"to_timestamp", b"to_timestamp_tz", b"to_timestamp_itz", b"to_yminterval",
    b"to_dsinterval",
)  # fmt: skip
_EMPTY = (b"empty_clob", b"empty_blob")

# Behind an apostrophe that ends a text although others in it were not doubled: how each clause can go on.
_END = rb"[ \t\n\r]*;?[ \t\n\r]*\Z"
_NO_NAME = rb"(?![A-Za-z0-9_$#\x80-\xff])"
_COLUMN_STARTS = rb'(?:"|rowid' + _NO_NAME + rb'|[A-Za-z0-9_$#\x80-\xff]+\.")'
_VALUE_STARTS = (
    rb"(?:['\-.+0-9]|(?:null|true|false|unsupported|nan|inf|infinity)" + _NO_NAME + rb"|to_|hextoraw\(|unistr\(|empty_"
    rb"|xmltype\(|/\*)"
)
_B = rb"[ \t\n\r]*"
_JOIN_GOES_ON = _B + rb"\|\|" + _B + rb"(?:'|unistr\()"
_GOES_ON = {
    "values": re.compile(
        rb"(?:" + _JOIN_GOES_ON + rb"|" + _B + rb"," + _B + _VALUE_STARTS + rb"|" + _B + rb"\)" + _END + rb")", re.I
    ),
    "set": re.compile(
        rb"(?:" + _JOIN_GOES_ON + rb"|" + _END + rb"|" + _B + rb"," + _B + _COLUMN_STARTS
        + rb"|" + _B + rb"where" + _NO_NAME + _B + _COLUMN_STARTS + rb")", re.I,
    ),
    "where": re.compile(
        rb"(?:" + _JOIN_GOES_ON + rb"|" + _END + rb"|" + _B + rb"and" + _NO_NAME + _B + _COLUMN_STARTS + rb")", re.I
    ),
}  # fmt: skip


class Fault(Exception):
    """A statement that gives no row: the code, and the byte it is about."""

    def __init__(self, code: RedoCode, position: int, column: int = -1) -> None:
        self.code, self.position, self.column = code, position, column
        super().__init__(code.name)


@dataclass(frozen=True)
class Part:
    """One part of a value: kind is text, bare, null, unknown, empty, or a function's name in lower case.

    `text` is the inside of the text or of the first argument, apostrophes as they stand, and `text_start` its place;
    `format` is the second argument.
    """

    kind: str
    start: int
    text: bytes = b""
    text_start: int = 0
    format: bytes | None = None


@dataclass(frozen=True)
class Literal:
    """A value: its parts, where it starts, all its bytes, whether a comment says JSON."""

    parts: tuple[Part, ...]
    start: int
    source: bytes
    json: bool

    @property
    def kind(self) -> str:
        """The kind of its only part, or "joined"."""
        return self.parts[0].kind if len(self.parts) == 1 else "joined"


Side = dict[int, Literal]
"""Column index -> its literal."""


@dataclass
class Statement:
    """What a statement says: its first word, the literals behind `where`, those of `set` or `values`."""

    op: str
    before: Side = field(default_factory=dict)
    after: Side = field(default_factory=dict)


class Reader:
    """Reads one statement.

    Args:
        data: the statement.
        column_of: the column of a name as the dictionary writes it; -1 to pass over it, None where it is an error.
        relaxed: an apostrophe ends a text only where the statement can go on behind it.
    """

    def __init__(self, data: bytes, column_of: Callable[[bytes], int | None], relaxed: bool) -> None:
        self._data, self._column_of, self._relaxed = data, column_of, relaxed
        self._at, self._clause = 0, "values"

    def read(self) -> Statement:
        """The statement. Raises Fault at the first byte that cannot go on, or at a column's name."""
        readers = {"insert": self._insert, "update": self._update, "delete": self._delete}
        for op, reader in readers.items():
            if self._word(op.encode()):
                statement = Statement(op)
                reader(statement)
                self._passes(b";")
                self._blanks()
                if self._at < len(self._data):
                    self._cannot_go_on()
                return statement
        self._blanks()
        raise Fault(RedoCode.STATEMENT, self._at)

    # ---- tokens ----

    def _blanks(self) -> None:
        match = _BLANKS.match(self._data, self._at)
        assert match is not None
        self._at = match.end()

    def _cannot_go_on(self) -> None:
        raise Fault(RedoCode.SYNTAX, self._at)

    def _passes(self, token: bytes) -> bool:
        self._blanks()
        if not self._data.startswith(token, self._at):
            return False
        self._at += len(token)
        return True

    def _take(self, token: bytes) -> None:
        if not self._passes(token):
            self._cannot_go_on()

    def _name_at(self, at: int) -> bytes:
        match = _NAME.match(self._data, at)
        return match[0] if match else b""

    def _word(self, word: bytes) -> bool:
        self._blanks()
        if self._name_at(self._at).lower() != word:
            return False
        self._at += len(word)
        return True

    def _take_word(self, word: bytes) -> None:
        if not self._word(word):
            self._cannot_go_on()

    def _name(self) -> tuple[int, bytes, bool]:
        """(where it starts, the name, whether it stands in quotes)."""
        self._blanks()
        start = self._at
        if self._data.startswith(b'"', start):
            match = _QUOTED.match(self._data, start)
            if match is None:
                raise Fault(RedoCode.SYNTAX, len(self._data))
            if not match[1]:
                self._cannot_go_on()
            self._at = match.end()
            return start, match[1], True
        found = self._name_at(start)
        if not found:
            self._cannot_go_on()
        self._at += len(found)
        return start, found, False

    def _path(self) -> tuple[int, bytes, bool]:
        name = self._name()
        while self._passes(b"."):
            name = self._name()
        return name

    def _column(self, name: tuple[int, bytes, bool], taken: Side) -> int:
        start, text, quoted = name
        column = self._column_of(text if quoted else text.upper())
        if column is None:
            raise Fault(RedoCode.COLUMN, start)
        if column in taken:
            raise Fault(RedoCode.DUPLICATE, start)
        return column

    # ---- statements ----

    def _insert(self, statement: Statement) -> None:
        self._take_word(b"into")
        self._path()
        self._take(b"(")
        columns: list[int] = []
        named: Side = {}
        while True:
            column = self._column(self._name(), named)
            columns.append(column)
            if column >= 0:
                named[column] = Literal((), 0, b"", False)
            if not self._passes(b","):
                break
        self._take(b")")
        self._take_word(b"values")
        self._take(b"(")
        for number, column in enumerate(columns):
            if number:
                self._take(b",")
            self._value_into(statement.after, column)
        self._take(b")")

    def _update(self, statement: Statement) -> None:
        self._path()
        if not self._word(b"set"):
            self._name()
            self._take_word(b"set")
        self._clause = "set"
        while True:
            column = self._column(self._path(), statement.after)
            self._take(b"=")
            self._value_into(statement.after, column)
            if not self._passes(b","):
                break
        if self._word(b"where"):
            self._where(statement)

    def _delete(self, statement: Statement) -> None:
        self._take_word(b"from")
        self._path()
        if not self._word(b"where"):
            self._blanks()
            if self._at == len(self._data) or self._data.startswith(b";", self._at):
                return
            self._name()
            if not self._word(b"where"):
                return
        self._where(statement)

    def _where(self, statement: Statement) -> None:
        self._clause = "where"
        while True:
            name = self._path()
            is_rowid = not name[2] and name[1].lower() == b"rowid"
            column = -1 if is_rowid else self._column(name, statement.before)
            if self._word(b"is"):
                self._blanks()
                start = self._at
                self._take_word(b"null")
                literal = Literal((Part("null", start),), start, self._data[start : self._at], False)
                if column >= 0:
                    statement.before[column] = literal
            else:
                self._take(b"=")
                self._value_into(statement.before, column)
            if not self._word(b"and"):
                return

    # ---- values ----

    def _value_into(self, side: Side, column: int) -> None:
        literal = self._value()
        if column >= 0:
            side[column] = literal

    def _value(self) -> Literal:
        self._blanks()
        json = False
        while self._data.startswith(b"/*", self._at):
            match = _COMMENT.match(self._data, self._at)
            if match is None:
                self._cannot_go_on()
            else:
                json = json or _JSON.fullmatch(match[1]) is not None
                self._at = match.end()
                self._blanks()
        start = self._at
        parts = [self._part()]
        end = self._at
        while self._passes(b"||"):
            self._blanks()
            parts.append(self._part())
            end = self._at
        self._at = end
        return Literal(tuple(parts), start, self._data[start:end], json)

    def _part(self) -> Part:
        start = self._at
        if self._data.startswith(b"'", start):
            return Part("text", start, self._text(self._relaxed), start + 1)
        if number := _NUMBER.match(self._data, start):
            self._at = number.end()
            return Part("bare", start, number[0], start)
        name = self._name_at(start)
        if not name:
            self._cannot_go_on()
        word = name.lower()
        self._at += len(name)
        behind = self._at
        self._blanks()
        if self._data.startswith(b"(", self._at):
            return self._function(word, start)
        if word == b"unsupported" and self._name_at(self._at).lower() == b"type":
            self._at += len(b"type")
            return Part("unknown", start)
        self._at = behind
        if word == b"null":
            return Part("null", start)
        if word not in _WORDS:
            raise Fault(RedoCode.SYNTAX, start)
        return Part("bare", start, name, start)

    def _text(self, relaxed: bool) -> bytes:
        """The inside of the text that starts here."""
        first = self._at + 1
        if not relaxed:
            match = _TEXT.match(self._data, self._at)
            if match is None:
                raise Fault(RedoCode.SYNTAX, len(self._data))
            self._at = match.end()
            return match[1]
        at, alone, may_end = self._data.find(b"'", first), False, False
        while at >= 0:
            if self._data.startswith(b"''", at):
                may_end = may_end or self._can_go_on(at + 2)
                at = self._data.find(b"'", at + 2)
            elif not self._can_go_on(at + 1):
                alone = True
                at = self._data.find(b"'", at + 1)
            elif alone and may_end:
                raise Fault(RedoCode.SYNTAX, at)
            else:
                self._at = at + 1
                return self._data[first:at]
        raise Fault(RedoCode.SYNTAX, len(self._data))

    def _can_go_on(self, at: int) -> bool:
        """Whether the statement can, behind a text that ends there."""
        return _GOES_ON[self._clause].match(self._data, at) is not None

    def _function(self, word: bytes, start: int) -> Part:
        if word in _EMPTY:
            self._take(b"(")
            self._take(b")")
            return Part("empty", start)
        if word not in _FUNCTIONS:
            self._brackets()
            return Part("unknown", start)
        self._take(b"(")
        arguments = [self._argument()]
        while self._passes(b","):
            arguments.append(self._argument())
        self._take(b")")
        text_start, text = arguments[0]
        return Part(word.decode(), start, text, text_start, arguments[1][1] if len(arguments) > 1 else None)

    def _argument(self) -> tuple[int, bytes]:
        self._blanks()
        if not self._data.startswith(b"'", self._at):
            self._cannot_go_on()
        text_start = self._at + 1
        return text_start, self._text(relaxed=False)

    def _brackets(self) -> None:
        depth = 0
        while self._at < len(self._data):
            byte = self._data[self._at : self._at + 1]
            if byte == b"'":
                self._text(relaxed=False)
                continue
            self._at += 1
            depth += {b"(": 1, b")": -1}.get(byte, 0)
            if depth == 0:
                return
        self._cannot_go_on()
