"""What a PostgreSQL target needs to be told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import Field

from connectors.base.config import Config
from libcore.errors import ConfigurationError

Mode = Literal["create", "adopt", "replace"]


class PostgresConfig(Config):
    """Login, limits and places of a PostgreSQL target."""

    dsn: str
    """Reference to the connection string (env:NAME or file:/path): a URL or key=value pairs, as libpq reads them."""
    application_name: str = "headrace"
    """Shown in pg_stat_activity, with flow and part behind it."""
    connect_timeout_s: int = Field(default=10, ge=1)
    """Seconds for one connection attempt."""
    statement_timeout_s: float = Field(default=600.0, ge=0)
    """Seconds after which a statement is given up and the segment tried again; 0 means never."""
    lock_timeout_s: float = Field(default=60.0, ge=0)
    """Seconds that a statement waits for a lock before the segment is tried again; 0 means for ever."""
    metadata_schema: str = "public"
    """Schema of headrace_progress, headrace_tables, headrace_truncates and headrace_dead_letters."""
    dead_letters_dir: Path | None = None
    """Directory for dead letters as Parquet files besides the table; None means the table only."""
    dead_letters_max: int = Field(default=100_000, ge=1)
    """Dead letters of step apply that one part may hold unresolved; above it the flow stops."""
    stop_at_refused: bool = False
    """Stop at a row that the database refuses, with its segment not applied, so that no transaction goes in torn."""


@dataclass(frozen=True)
class TargetTable:
    """Where a source table goes.

    Args:
        name: "schema.table", or "table" in schema public.
        mode: "create" makes the table or takes an empty one; "adopt" goes on in a filled one, whose rows stay;
            "replace" empties a filled one once, when the flow takes it over.
        columns: PostgreSQL type by column, where it shall differ from the type that follows from the source.
    """

    name: str
    mode: Mode = "create"
    columns: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.mode not in ("create", "adopt", "replace"):
            raise ConfigurationError(f"table {self.name}: expected mode create, adopt or replace, found {self.mode!r}")
        if not self.table or not self.schema:
            raise ConfigurationError(f'table {self.name!r}: expected "table" or "schema.table"')

    @property
    def schema(self) -> str:
        """The schema's name."""
        return self.name.split(".", 1)[0] if "." in self.name else "public"

    @property
    def table(self) -> str:
        """The table's name in its schema."""
        return self.name.split(".", 1)[1] if "." in self.name else self.name
