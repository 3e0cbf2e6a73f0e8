"""The pipeline file as typed data; an error names file, line, what was expected, what was found, and a near name.

`load` reads a file, `dumps` writes one; what was accepted once is accepted again with the same meaning.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from connectors.base.secrets import Reference
from connectors.formats import declared, openlogreplicator_plan
from connectors.formats.declared import DeclaredColumn, declared_column
from connectors.kafka.config import KafkaConfig
from flows.document_spec import DocumentSpec
from flows.spec_base import Names, Section
from flows.spec_errors import configuration_error, near
from flows.spec_rollout import RolloutSpec
from flows.spec_source import Source, refused
from flows.spec_steps import Step
from flows.spec_wiring import Wiring, wire
from flows.state.location import WITHOUT_KEYS, has_keys
from flows.toml_text import dumps as toml_dumps
from flows.toml_text import error_line
from libcore.errors import ConfigurationError
from libcore.schema import parse_type

SLOTS_MAX = 4096
SPOOL_BYTES_MIN = 1_000_000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_BYTES = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_TYPE_NAME = re.compile(r"[a-z_0-9]{3,}")
_FIELDS = re.compile(r"\{([^{}]*)\}")
NAME_FIELDS = ("topic", "schema", "table")


def parse_bytes(value: object) -> object:
    """Bytes from a number or a text such as "512 MB" (powers of 1000) or "512 MiB" (of 1024). Raises ValueError."""
    if not isinstance(value, str):
        return value
    match = _BYTES.fullmatch(value)
    if not match or match[2].upper() not in _UNITS:
        raise ValueError('expected bytes as a number, or a text such as "512 MB" or "2 GiB"')
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("expected a name of letters, digits, `_` and `-`, at most 63, starting with a letter or digit")
    return value


def _column_type(value: str) -> str:
    try:
        return str(parse_type(value))
    except ConfigurationError as error:
        expected = error.message.partition("expected ")[2]
        raise ValueError(f'|{expected}|"{value}"{near(value, _TYPE_NAME.findall(expected))}') from error


def _check_column(
    name: str, column: str | ColumnSpec, written: Callable[[DeclaredColumn], object] = declared.wire, table: str = ""
) -> None:
    """`written`: how the messages have it. `table`: the table's place in the file and a dot."""
    try:
        written(declared_column(name, column if isinstance(column, str) else column.model_dump(exclude_none=True)))
    except ConfigurationError as error:
        raise ValueError(f"{table}columns.{name}||{error.message.removeprefix(f'column {name}: ')}") from error


def _check_sharing(name: str, table: TableSpec) -> None:
    """A table whose topic holds others, too: what its messages do not say must stand in the file."""
    beside = 'beside format = "openlogreplicator", whose messages do not say'
    if table.columns is None:
        raise ValueError(f"tables.{name}.columns|columns {beside} their types|none")
    if not table.key:
        raise ValueError(f"tables.{name}.key|key columns {beside} them|none")
    if table.on_new_column == "add":
        raise ValueError(f"tables.{name}.on_new_column|ignore or refuse {beside} a column's type|add")
    for column, given in table.columns.items():
        _check_column(column, given, openlogreplicator_plan.wire, f"tables.{name}.")


def _template(value: str) -> str:
    for field in _FIELDS.findall(value):
        if field not in NAME_FIELDS:
            raise ValueError("expected a name with {topic}, {schema}, {table} in it or none")
    if not value or "{" in _FIELDS.sub("", value) or "}" in _FIELDS.sub("", value):
        raise ValueError("expected a name with {topic}, {schema}, {table} in it or none")
    return value


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=SPOOL_BYTES_MIN)]
TypeText = Annotated[str, AfterValidator(_column_type)]
Template = Annotated[str, AfterValidator(_template)]


class ColumnSpec(Section):
    """`NAME = { type = ..., ... }`: a column whose form on the wire its type alone does not say."""

    type: TypeText
    nullable: bool = True
    unit: Literal["us", "ms", "ns"] | None = Field(
        default=None, description="what a time or timestamp counts; default us"
    )
    encoding: str | None = Field(default=None, description="text, base64, struct, days, iso, raw")
    scale: int | None = Field(default=None, ge=0, le=76, description="of the integer in a base64 decimal")
    length: int | None = Field(default=None, ge=1, description="bits")


class TableSpec(Section):
    """`[tables.NAME]`: one topic's (or one pattern's) table on its way to the target."""

    source: str | None = Field(default=None, min_length=1, description="which of several sources it comes from")
    topic: str | None = Field(default=None, min_length=1, description="topic name or pattern (* and ?); default: NAME")
    key: Names | None = Field(default=None, description="key columns; []: keyless; default: those of the message's key")
    columns: dict[str, TypeText | ColumnSpec] | None = Field(
        default=None, description="exact types; default: from the message's schema part"
    )
    rename: dict[str, str] = Field(default_factory=dict, description="source column -> target column")
    drop: Names = Field(default=(), description="source columns that are not written")
    where: str | None = Field(
        default=None, min_length=1, description="SQL over source columns; a row that leaves it is deleted"
    )
    target: Template | None = Field(default=None, description="table at the sink; default: the sink's `table`")
    mode: Literal["create", "adopt", "replace"] | None = Field(default=None, description="default: the sink's `mode`")
    types: dict[str, str] = Field(
        default_factory=dict, description="target column -> type of the target system, overriding"
    )
    on_truncate: Literal["stop", "ignore", "apply"] = Field(
        default="stop", description="apply: only where the topic has one partition, as its order is unknown elsewhere"
    )
    on_new_column: Literal["add", "ignore", "refuse"] | None = Field(
        default=None, description="a column that appears in mid-stream; default: add, or ignore beside declared columns"
    )
    on_schema_change: Literal["refuse", "follow"] = Field(
        default="refuse", description="a change that is not additive: refuse the table's later rows, or follow it"
    )
    generation: int = Field(
        default=0, ge=0, description="raised by a person when the source was restored or the topic made anew"
    )
    placeholder: str = Field(
        default="__debezium_unavailable_value", description="stands for a value the source did not send"
    )
    write: bool = Field(default=False, description="written to the target though a step reads it")
    single_part: bool = Field(
        default=False, description="all rows through one sink part, whatever the target's constraints"
    )

    @property
    def is_pattern(self) -> bool:
        """Whether the topic names many topics."""
        return self.topic is not None and any(c in self.topic for c in "*?")

    @model_validator(mode="after")
    def _columns_are_known(self) -> TableSpec:
        if self.columns is not None:
            for name, column in self.columns.items():
                _check_column(name, column)
            for setting in ("key", "drop", "rename"):
                for name in getattr(self, setting) or ():
                    if name not in self.columns:
                        raise ValueError(f"{setting}|a column of `columns`|{name!r}{near(name, self.columns)}")
        if dropped_key := [name for name in self.key or () if name in self.drop]:
            raise ValueError(f"drop|columns outside of the key|key column {dropped_key[0]!r}")
        if both := [name for name in self.rename if name in self.drop]:
            raise ValueError(f"rename|columns that are not dropped|{both[0]!r}, which stands in `drop`")
        kept = [self.rename.get(name, name) for name in self.columns or self.rename if name not in self.drop]
        if twice := [name for name in kept if kept.count(name) > 1]:
            raise ValueError(f"rename|a target name for each column|{twice[0]!r} twice")
        if self.is_pattern and self.columns is not None:
            raise ValueError(
                "columns|no declared columns for a pattern of topics|`columns`; "
                "name the topic, or leave the types to the schema part"
            )
        return self


class DeadLetters(Section):
    """`[sink.postgres.dead_letters]`: rows that could not pass go to headrace_dead_letters, and to files."""

    parquet: bool = Field(default=True, description="as Parquet files")
    directory: str | None = Field(
        default=None, min_length=1, description="of the files; default: state_dir/dead-letters"
    )
    rows_max: int = Field(
        default=100_000, ge=1, description="unresolved refused rows of one part; above it the flow stops"
    )


class PostgresSink(Section):
    """`[sink.postgres]`: the target database."""

    dsn: Reference = Field(min_length=1, description="env:NAME or file:/path that holds the connection string")
    table: Template = Field(
        default="{table}", description="target table name; {topic}, {schema}, {table} of the source"
    )
    schema_: str = Field(default="public", alias="schema", min_length=1, description="schema of the target tables")
    mode: Literal["create", "adopt", "replace"] = Field(
        default="create", description="a table that has rows already: refuse, take it over as it is, or empty it first"
    )
    parts: int = Field(default=4, ge=1, le=256, description="writers; fixed for the pipeline's life")
    spool_bytes: Bytes = Field(default=512_000_000, description="spool on disk at most, over all parts")
    metadata_schema: str = Field(default="public", min_length=1, description="schema of Headrace's own tables")
    statement_timeout_s: float = Field(
        default=600.0, ge=0, description="a statement is given up and tried again; 0: never"
    )
    lock_timeout_s: float = Field(default=60.0, ge=0, description="a wait for a lock likewise; 0: never")
    dead_letters: DeadLetters = DeadLetters()


class NullSink(Section):
    """`[sink.null]`: counts rows and writes nothing; for measurements."""

    parts: int = Field(default=4, ge=1, le=256)
    spool_bytes: Bytes = 512_000_000


class Sink(Section):
    """`[sink.NAME]`: exactly one."""

    postgres: PostgresSink | None = None
    null: NullSink | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Sink:
        given = [name for name in ("postgres", "null") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"|exactly one of [sink.postgres], [sink.null]|{' and '.join(given) or 'none'}")
        return self

    @property
    def name(self) -> str:
        """postgres or null."""
        return "postgres" if self.postgres is not None else "null"

    @property
    def settings(self) -> PostgresSink | NullSink:
        """The one sink's settings."""
        settings = self.postgres or self.null
        assert settings is not None, "the validator lets exactly one through"
        return settings


def _tables(value: object) -> object:
    """`tables = "pattern"` or a list of patterns, as if each were a `[tables."pattern"]`."""
    patterns = (value,) if isinstance(value, str) else value
    if isinstance(patterns, tuple) and all(isinstance(item, str) for item in patterns):
        return {pattern: {"topic": pattern} for pattern in patterns}
    return value


class Pipeline(Section):
    """A whole pipeline file."""

    name: Annotated[str, AfterValidator(_name)]
    slots: int = Field(default=64, ge=1, le=SLOTS_MAX, description="key-hash slots; fixed for the pipeline's life")
    state_dir: str | None = Field(default=None, min_length=1, description="default: var/<name> beside the file")
    source: Source
    tables: Annotated[dict[str, TableSpec], BeforeValidator(_tables), Field(min_length=1)]
    step: tuple[Step, ...] = Field(default=(), description="joins, windows, groups, computed columns, in order")
    changed_steps: Literal["refuse", "accept"] = Field(
        default="refuse", description="steps that are other than when rows were read: refused, or so from now on"
    )
    rollout: RolloutSpec = RolloutSpec()
    document: DocumentSpec | None = Field(
        default=None, description="whole source transactions become visible in the target together"
    )
    state_bytes: Bytes = Field(
        default=2_000_000_000, description="memory of one step's state in one process at most; above it the flow stops"
    )
    segments: str | None = Field(
        default=None,
        min_length=1,
        description="where steps keep state: a directory or s3://...; default: in state_dir",
    )
    sink: Sink

    @field_validator("segments")
    @classmethod
    def _without_keys(cls, segments: str | None) -> str | None:
        if segments is not None and has_keys(segments):
            raise ValueError(f"expected a location {WITHOUT_KEYS}, found keys")
        return segments

    @model_validator(mode="after")
    def _fits_together(self) -> Pipeline:
        if self.sink.settings.parts > self.slots:
            raise ValueError(f"sink.{self.sink.name}.parts|at most `slots` ({self.slots})|{self.sink.settings.parts}")
        for name, table in self.tables.items():
            try:
                one = self.source.of(table.source)
            except ValueError as error:
                raise ValueError(f"tables.{name}.source{error}") from None
            if isinstance(one.settings, KafkaConfig) and one.settings.topic is not None:
                _check_sharing(name, table)
        topics = [self.topic(name) for name in self.tables]
        if twice := [topic for topic in topics if topics.count(topic) > 1]:
            raise ValueError(f"tables|each topic once|topic {twice[0]!r} in two tables")
        if unfit := refused(self.source, self.document):
            raise ValueError(unfit)
        assert self.wiring  # refused here where steps do not fit; a copy with some of the tables keeps it
        return self

    @cached_property
    def wiring(self) -> Wiring:
        """Which streams the steps read, and which are written."""
        patterns = [name for name, table in self.tables.items() if table.is_pattern]
        always = [name for name, table in self.tables.items() if table.write]
        return wire(self.tables, patterns, self.step, always)

    def topic(self, name: str) -> str:
        """The topic or pattern of the table of that name in the file, behind its source's name where that has one."""
        table = self.tables[name]
        return self.source.of(table.source).prefix + (table.topic or name)


def parse(text: str, file: str, overrides: Mapping[str, Any] | None = None) -> Pipeline:
    """A pipeline from TOML text.

    Args:
        text: the file's text.
        file: its name, for messages.
        overrides: settings that win over the text, by dotted path ("source.kafka.servers").
    Raises: ConfigurationError with the line of the first error; the others follow in its text.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"not TOML: {error}", file=file, line=error_line(error, text)) from error
    for dotted, value in (overrides or {}).items():
        _override(data, dotted.split("."), value)
    try:
        return Pipeline.model_validate(_immutable(data), strict=True)
    except ValidationError as error:
        raise configuration_error(error, Pipeline, data, text, file) from None


def load(path: str | Path, overrides: Mapping[str, Any] | None = None) -> Pipeline:
    """A pipeline from a file. Raises ConfigurationError; see `parse`."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"expected a readable pipeline file, found: {error.strerror}", file=str(path)
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"expected UTF-8 text, found byte {error.object[error.start]:#04x} at {error.start}", file=str(path)
        ) from error
    return parse(text, str(path), overrides)


def dumps(pipeline: Pipeline) -> str:
    """The pipeline as a TOML text that `parse` reads back equal; settings at their default are left out."""
    return toml_dumps(pipeline.model_dump(by_alias=True, exclude_defaults=True))


def _override(data: dict[str, Any], path: list[str], value: Any) -> None:
    for name in path[:-1]:
        data = data.setdefault(name, {})
    data[path[-1]] = value


def _immutable(value: Any) -> Any:
    """Lists as tuples: validation is strict, and the models hold tuples."""
    if isinstance(value, dict):
        return {name: _immutable(item) for name, item in value.items()}
    return tuple(_immutable(item) for item in value) if isinstance(value, list) else value
