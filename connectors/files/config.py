"""The [source.files] section: which files make which table, how they are written, and when one is complete."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator, model_validator

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from libcore.delimited_types import Dialect, TextColumn, Trim
from libcore.errors import ConfigurationError
from libcore.schema import Column, parse_type


class FileColumn(Config):
    """`NAME = { type = ..., ... }`: a column of a file, and how its values are written (libcore.delimited_types)."""

    type: str
    """The exact type."""
    nullable: bool = True
    """False: a row without a value is a dead letter."""
    source: str | None = Field(default=None, min_length=1)
    """The field's name in the header, or in the file's schema; default: the column's."""
    field: int | None = Field(default=None, ge=0)
    """CSV without a header: which field, from 0 on; default: the column's place."""
    offset: int = Field(default=0, ge=0)
    """Fixed width: where it begins in the record, from 0 on."""
    length: int = Field(default=0, ge=0)
    """Fixed width: how long it is."""
    decimal: Literal[".", ","] = "."
    """The sign in front of the fraction."""
    thousands: str = Field(default="", max_length=1)
    """The sign between groups of three digits."""
    trailing_sign: bool = True
    """The sign may stand behind the digits."""
    implied_decimals: int = Field(default=0, ge=0, le=76)
    """So many last digits are the fraction, without a sign in front."""
    pattern: str | None = None
    """Dates and times: %Y %m %b %d %H %M %S %f %z and what stands between; default: ISO 8601."""
    nulls: tuple[str, ...] = ()
    """Texts that mean NULL."""
    true_words: tuple[str, ...] = ("true", "t", "yes", "y", "1", "X")
    """bool: what means true."""
    false_words: tuple[str, ...] = ("false", "f", "no", "n", "0")
    """bool: what means false."""
    base64: bool = False
    """bytes in base64 instead of hex digits."""
    trim: Literal["none", "right", "both"] = "none"
    """Texts: which blanks around do not belong to it."""

    @field_validator("type")
    @classmethod
    def _known_type(cls, text: str) -> str:
        return _type_text(text)

    def text_column(self, name: str, *, is_key: bool) -> TextColumn:
        """As the readers of text files want it."""
        return TextColumn(
            Column(name, parse_type(self.type), self.nullable and not is_key),
            source=self.source,
            field_index=self.field,
            offset=self.offset,
            length=self.length,
            decimal=self.decimal,
            thousands=self.thousands,
            trailing_sign=self.trailing_sign,
            implied_decimals=self.implied_decimals,
            pattern=self.pattern,
            null_words=self.nulls,
            true_words=self.true_words,
            false_words=self.false_words,
            base64=self.base64,
            trim=Trim[self.trim.upper()],
        )


class CsvFormat(Config):
    """`csv = { ... }`: the dialect; the defaults are RFC 4180 with a header."""

    delimiter: str = ","
    quote: str = Field(default='"', max_length=1)
    """"" where quotes mean nothing."""
    escape: str | None = None
    doubled: bool = True
    lazy_quotes: bool = False
    c_escapes: bool = False
    comment: str | None = None
    quoted_nulls: bool = False
    skip_blank: bool = True
    trailing_delimiter: bool = False
    header: bool = True
    ignore_case: bool = False
    field_count: int | None = Field(default=None, ge=0)
    skip_lines: int = Field(default=0, ge=0)
    record_bytes_max: int = Field(default=1 << 20, ge=1, le=(1 << 30) - 1)

    def dialect(self, encoding: str) -> Dialect:
        """As the reader wants it."""
        options = self.model_dump(exclude={"quote", "ignore_case", "field_count"})
        return Dialect(**options, quote=self.quote or None, encoding=encoding)


class FixedFormat(Config):
    """`fixed = { ... }`: records of one width; see libcore.delimited_types.FixedPlan."""

    marker: str = ""
    """How a record of this table begins; records of other tables are passed by."""
    width: int | None = Field(default=None, ge=1)
    record_bytes: int = Field(default=0, ge=0)
    """Records without line ends have so many bytes; 0: a record is a line."""
    characters: bool = True
    """Offsets count characters, else bytes."""
    pad_short: bool = False
    ignore_rest: bool = False
    skip_blank: bool = True
    skip_lines: int = Field(default=0, ge=0)
    record_bytes_max: int = Field(default=1 << 20, ge=1, le=(1 << 30) - 1)


class FileTable(Config):
    """`[source.files.tables.NAME]`: the files whose rows make one source table."""

    path: str = Field(min_length=1)
    """A file, a directory, or a pattern (* ? []) in the last part; relative to the pipeline file's directory."""
    format: Literal["csv", "fixed", "parquet", "jsonl"]
    """How the files are written."""
    key: tuple[str, ...] = ()
    """Key columns; none: every line is a row of its own."""
    columns: dict[str, str | FileColumn] | None = None
    """Exact types, and how values are written; Parquet may leave them out."""
    encoding: str = "utf-8"
    """Of csv and fixed: utf-8, or a single-byte encoding of Python that extends ASCII."""
    csv: CsvFormat = CsvFormat()
    """The dialect."""
    fixed: FixedFormat = FixedFormat()
    """The records."""
    line_bytes_max: int = Field(default=16 << 20, ge=1, le=(1 << 30) - 1)
    """jsonl: a longer line is a dead letter."""
    mode: Literal["changes", "table"] = "changes"
    """A file's rows are upserts; or each file is the whole table, and what is no longer in it is deleted."""
    delete_share_max: float = Field(default=1.0, ge=0, le=1)
    """mode = "table": a file that would delete more than this share of the rows stops the flow."""
    complete: Literal["settled", "done", "renamed"] = "settled"
    """When a file is read: unchanged for settle_s; NAME.done is there; or at once, as writers rename it when whole."""
    settle_s: float = Field(default=2.0, ge=0, le=86400)
    """complete = "settled": how long size and time must stay."""
    done_suffix: str = Field(default=".done", min_length=1)
    """complete = "done": what is put behind a file's name."""
    ignore: tuple[str, ...] = (".*", "*.tmp", "*.part", "*.filepart", "*~")
    """Names that are passed by, whatever `path` says."""
    on_replaced: Literal["read", "stop", "ignore"] | None = None
    """A file read before that has other bytes now; default: read it again, or stop where the table has no key."""
    generation: int = Field(default=0, ge=0, le=(1 << 32) - 1)
    """Raised by a person when the files begin anew."""

    @field_validator("columns")
    @classmethod
    def _types(cls, columns: dict[str, str | FileColumn] | None) -> dict[str, str | FileColumn] | None:
        for name, column in (columns or {}).items():
            if isinstance(column, str):
                try:
                    _type_text(column)
                except ValueError as error:
                    raise ValueError(f"{name}||{error}") from None
        return columns

    @model_validator(mode="after")
    def _fits_together(self) -> FileTable:
        if self.columns is None and self.format != "parquet":
            raise ValueError(f"columns|names and types, as {self.format} has none|nothing")
        if self.columns is not None and (missing := [name for name in self.key if name not in self.columns]):
            raise ValueError(f"key|columns of {', '.join(self.columns)}|{missing[0]!r}")
        if self.mode == "table" and not self.key:
            raise ValueError('key|key columns beside mode = "table"|none')
        if self.replaced == "read" and not self.key:
            raise ValueError('on_replaced|"stop" or "ignore" for a table without a key|"read"')
        return self

    @property
    def replaced(self) -> str:
        """on_replaced with its default in place."""
        return self.on_replaced or ("read" if self.key else "stop")

    def text_columns(self, key: tuple[str, ...]) -> tuple[TextColumn, ...]:
        """The columns as the readers of text files want them; those of the key take no NULL."""
        given = {name: FileColumn(type=c) if isinstance(c, str) else c for name, c in (self.columns or {}).items()}
        return tuple(column.text_column(name, is_key=name in key) for name, column in given.items())


class FilesConfig(Config):
    """Files that are read directly; each table is a partition of its own."""

    tables: dict[str, FileTable] = Field(min_length=1)
    """By the name that `[tables.X] topic` asks for."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows in one batch, which is one epoch of a table."""
    piece_bytes: int = Field(default=4 << 20, ge=1 << 10, le=1 << 28)
    """Bytes of a file that are read at a time."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead, a table."""
    poll_s: float = Field(default=1.0, ge=0.01, le=3600)
    """How often a folder that had nothing new is looked at again."""
    remembered_max: int = Field(default=10_000, ge=1, le=1_000_000)
    """Files of a table that are remembered; above it the oldest that are gone from the folder are forgotten."""
    guardian: Guardian = Guardian()
    """How fast rows of a table are read, and when."""


def _type_text(text: str) -> str:
    try:
        return str(parse_type(text))
    except ConfigurationError as error:
        raise ValueError(error.message) from error
