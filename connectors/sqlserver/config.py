"""The [source.sqlserver] section: where the database is, how its changes are followed, what it is spared."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from connectors.base.secrets import Reference


class SqlServerGuardian(Guardian):
    """`[source.sqlserver.guardian]`: what the source database is spared."""

    query_seconds_max: int = Field(default=0, ge=0, le=86_400)
    """A query that takes longer is given up, and rows are read again in smaller chunks; 0: no bound."""
    stopped_hours_max: int = Field(default=48, ge=1, le=8760)
    """How long the flow may stand still: what `headrace doctor` holds the retention of changes against."""


class SqlServerConfig(Config):
    """A SQL Server database, read by its change tables or by change tracking."""

    dsn: Reference
    """Reference to the ODBC connection string (env:NAME or file:/path): "DRIVER={...};SERVER=...;DATABASE=...;...".
    """
    mode: Literal["cdc", "change_tracking"] = "cdc"
    """Change data capture brings every change in commit order; change tracking the newest state of each changed key."""
    capture_instances: Literal["given", "made"] = "given"
    """Whether a second capture instance is made (and the first dropped) by Headrace when a table gained a column."""
    chunk_rows: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows that one query of a snapshot reads; a crash repeats at most one such chunk."""
    transactions_max: int = Field(default=10_000, ge=1, le=10_000_000)
    """Transactions that are read from all change tables together before the next ones are asked for."""
    batch_rows_max: int = Field(default=20_000, ge=2, le=1_000_000)
    """Rows in one batch, which is one epoch of the partition."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""
    poll_s: float = Field(default=0.5, ge=0.01, le=3600)
    """How often a database that had nothing new is asked again."""
    answer_s_max: int = Field(default=30, ge=1, le=3600)
    """How long a login may take."""

    guardian: SqlServerGuardian = SqlServerGuardian()
    """What the database is spared."""
