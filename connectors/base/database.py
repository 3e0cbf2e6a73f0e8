"""What every database or folder that is read directly keeps: its tables described, read, followed, and looked over.

A ChangeSource is one system under one login. Topics become tables: `[tables.X] topic` names one, or a pattern of them,
and the rest of the pipeline is as with Kafka. How its partitions are driven stands in connectors/base/background.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from bytewax.inputs import FixedPartitionedSource

from connectors.base.items import Item
from libcore.schema import ColumnType, Table


@dataclass(frozen=True)
class SourceTable:
    """One table as its source has it.

    Args:
        name: what `[tables.X] topic` matches ("schema.table"), and the Table's name in batches.
        table: columns with exact types; the key, () where it has none. Without columns: they come with the messages.
        notes: what is lossy or surprising, a sentence each: `headrace check --connect` prints them.
        partition: the only source partition that brings its rows, for watermarks; "" where there may be several.
    """

    name: str
    table: Table
    notes: tuple[str, ...] = ()
    partition: str = ""


@dataclass(frozen=True)
class Finding:
    """One thing about a source that a person should know.

    Args:
        severity: an error refuses the start, a warning may lose or stop something one day, a note only explains.
        what: the thing looked at. expected, found: in words.
        remedy: the statement or setting that mends it; "" where there is none.
    """

    severity: Literal["error", "warning", "note"]
    what: str
    expected: str
    found: str
    remedy: str = ""

    def __str__(self) -> str:
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.severity}: {self.what}: expected {self.expected}, found {self.found}{remedy}"


class BoundColumn(Protocol):
    """A column that the pipeline file declares (connectors.formats.declared.DeclaredColumn is one)."""

    @property
    def name(self) -> str:
        """The source's name for it."""

    @property
    def type(self) -> ColumnType:
        """The type that it shall have."""

    @property
    def nullable(self) -> bool:
        """False where NULL is refused."""

    @property
    def unit(self) -> str | None:
        """What an integer time counts: us, ms or ns."""


class TableBinding(Protocol):
    """What the pipeline file says of a table (connectors.formats.binding.TopicBinding is one)."""

    @property
    def table(self) -> str:
        """The source table's name."""

    @property
    def columns(self) -> Sequence[BoundColumn] | None:
        """Declared columns; None: those of the source."""

    @property
    def key(self) -> tuple[str, ...] | None:
        """Key columns; None: those of the source."""

    @property
    def generation(self) -> int:
        """Raised by a person when the source was restored."""

    @property
    def new_column(self) -> str:
        """What to do where the table gains a column: add, ignore or refuse."""

    @property
    def whole(self) -> str:
        """Why its rows must come with all of their columns; "": they need not."""

    @property
    def dropped(self) -> tuple[str, ...]:
        """Columns that are not written."""


@dataclass(frozen=True)
class SourceContext:
    """What a ChangeSource needs to know of the pipeline it serves.

    Args:
        flow: the pipeline's name, for dead letters.
        base: directory of the pipeline file; relative paths begin there.
        directory: the pipeline's state directory, into which `rows` writes nothing; None beside a flow (check).
        decoder: makes a decoder of a format by name, as connectors.registry.decoder does.
        beating: tables whose idle partition brings a Tick a second, for a step that watches time.
        spool_bytes: what the pipeline keeps on disk while its target is away; 0 where it is not known.
        name: the source's own name, where the pipeline file gives it one; "" where it has none.
    """

    flow: str = ""
    base: Path = field(default_factory=Path)
    directory: Path | None = None
    decoder: Callable[[str], Any] | None = None
    beating: frozenset[str] = frozenset()
    spool_bytes: int = 0
    name: str = ""

    @property
    def owner(self) -> str:
        """What a source calls things that it makes for itself at the other side after: the flow, and its own name."""
        return f"{self.flow}_{self.name}" if self.name else self.flow

    def partition(self, part: str) -> str:
        """A source partition's name in metrics, logs and Ticks: different in every source of the pipeline."""
        return f"{self.name}.{part}" if self.name else part


class ChangeSource(Protocol):
    """One system that is read directly. Made as Class(config, context); connects when it is first asked."""

    def names(self) -> Collection[str]:
        """Every table there is, without describing it. Raises TransientError, ConfigurationError."""

    def describe(self, names: Sequence[str]) -> list[SourceTable]:
        """These tables, in that order. Raises ConfigurationError (one is not there), TransientError."""

    def source(
        self, tables: Sequence[SourceTable], bindings: Mapping[str, Any], *, until_end: bool
    ) -> FixedPartitionedSource[Item, Any]:
        """A Bytewax source of the tables' rows and later changes.

        Args:
            tables: as `describe` gave them, with key and columns as the pipeline file wants them.
            bindings: a TableBinding for each of them by name.
            until_end: end at what there is at the start, instead of following.
        """

    def rows(self, tables: Sequence[SourceTable], bindings: Mapping[str, Any]) -> Iterator[Item]:
        """All rows as they are now, as upserts, in a consistent view, and dead letters: what `verify` compares with."""

    def doctor(self, tables: Sequence[SourceTable]) -> list[Finding]:
        """What is amiss with the source, worst first."""

    def close(self) -> None:
        """Leave the system; a later call connects again."""
