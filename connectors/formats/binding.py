"""What the pipeline file says about one topic: its table, columns and key, and what to do about changes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Literal, get_args

from connectors.formats.declared import DeclaredColumn
from libcore.errors import ConfigurationError

OnTruncate = Literal["stop", "ignore", "apply"]
OnNewColumn = Literal["add", "ignore", "refuse"]
OnSchemaChange = Literal["refuse", "follow"]
Decimals = Literal["auto", "base64", "number"]


@dataclass(frozen=True)
class TopicBinding:
    """A topic's table.

    Args:
        table: the source table's name in batches, metrics and messages.
        columns: declared columns; None takes them from the messages' schema part.
        key: key columns; () for a keyless table; None takes them from the first message's key.
        generation: raised by an operator's command when the source was restored or the topic made anew.
        on_truncate: "stop" the flow, "ignore" it, or "apply" it (topics of one partition only: elsewhere its order
            against the rows is unknown).
        on_new_column: a field that the table lacks: "add" it (its type must stand in a schema part), "ignore" it, or
            "refuse" the rows. None: "add" without declared columns, else "ignore".
        on_schema_change: changes that are not additive: "refuse" the table's later rows of that partition (they become
            dead letters), or "follow".
        clears: whether a dropped column can be cleared in the target (under "follow"): its order against the rows is
            known (the topic has one partition), and no state of a step holds its values.
        decimals: how Connect Decimal values are written under a schema part: "base64", "number", or "auto": judged by
            the first value that is not null.
        placeholder: the text that stands for a value the source did not send (unavailable.value.placeholder).
        transactions: rows carry their source transaction, and messages without a row give marks (the document step).
        whole: why its rows must come with all of their columns, as what is behind "because"; "": they need not.
        dropped: columns that are not written.
    """

    table: str
    columns: tuple[DeclaredColumn, ...] | None = None
    key: tuple[str, ...] | None = None
    generation: int = 0
    on_truncate: OnTruncate = "stop"
    on_new_column: OnNewColumn | None = None
    on_schema_change: OnSchemaChange = "refuse"
    decimals: Decimals = "auto"
    placeholder: str = "__debezium_unavailable_value"
    clears: bool = field(default=False, repr=False)  # no policy: the fingerprint leaves it out
    transactions: bool = field(default=False, repr=False)
    whole: str = field(default="", repr=False)
    dropped: tuple[str, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        choices = (
            ("on_truncate", OnTruncate),
            ("on_new_column", OnNewColumn),
            ("on_schema_change", OnSchemaChange),
            ("decimals", Decimals),
        )
        for name, allowed in choices:
            found = getattr(self, name)
            if found is not None and found not in get_args(allowed):
                raise ConfigurationError(
                    f"table {self.table}: expected {name} of {', '.join(get_args(allowed))}, found {found!r}"
                )
        if self.columns is not None:
            names = [column.name for column in self.columns]
            if missing := [name for name in self.key or () if name not in names]:
                raise ConfigurationError(
                    f"table {self.table}: key column {missing[0]!r} is not among the declared columns {names}"
                )

    @property
    def fingerprint(self) -> str:
        """16 hex digits over all settings: a refusal lasts until one of them changes."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def follows(self) -> bool:
        """Whether every change of the shape is taken on."""
        return self.on_schema_change == "follow"

    @property
    def new_column(self) -> OnNewColumn:
        """on_new_column with its default in place."""
        if self.on_new_column is not None:
            return self.on_new_column
        return "add" if self.columns is None else "ignore"
