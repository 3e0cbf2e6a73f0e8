"""The [source.oracle] section: an Oracle database, and how its changes are read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from connectors.base.secrets import Reference

Mode = Literal["logminer", "logminer_committed", "trigger_log", "timestamp"]


class OracleGuardian(Guardian):
    """`[source.oracle.guardian]`: what the source database is spared."""

    query_seconds_max: float = Field(default=0.0, ge=0, le=86_400)
    """A query that takes longer is given up, and its rows are read again in smaller pieces; 0: no bound."""


class OracleConfig(Config):
    """Where the database is, who logs in, and by which way its changes come."""

    dsn: Reference
    """Reference (env:NAME or file:/path) to the address: host:port/service, or an alias of tnsnames.ora."""
    user: Reference
    """Reference to the login's name."""
    password: Reference
    """Reference to the login's password."""
    pdb: str = Field(default="", max_length=128, pattern="^[^\"']*$")
    """The pluggable database that holds the tables, where the login is one of the root container (C##...)."""
    default_schema: str = Field(default="", max_length=128)
    """The schema whose tables are called by their name alone; those of others are called SCHEMA.TABLE."""
    mode: Mode = "logminer"
    """LogMiner with transactions put together here, or by the database; a log that triggers keep; a time column."""

    chunk_rows: int = Field(default=50_000, ge=1, le=10_000_000)
    """Rows that one query of the snapshot reads; a crash repeats at most one such chunk."""
    batch_rows_max: int = Field(default=20_000, ge=2, le=1_000_000)
    """Rows in one batch, which is one epoch of the partition."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""
    poll_s: float = Field(default=0.5, ge=0.01, le=3600)
    """How often a database that had nothing new is asked again."""

    window_scns_min: int = Field(default=1_000, ge=1)
    """SCNs that one LogMiner session covers at least, where so many are there."""
    window_scns_max: int = Field(default=100_000, ge=1)
    """SCNs that it covers at most, while the reader is behind."""
    settle_s: float = Field(default=3.0, ge=0, le=600)
    """How old an SCN must be before it is mined: the log writer puts all redo into its files within three seconds."""
    transaction_bytes_max: int = Field(default=64 << 20, ge=1 << 16)
    """What open transactions hold in memory; above it the largest go to disk. None is ever dropped."""
    on_lost: Literal["stop", "snapshot"] = "stop"
    """When redo that was not read is gone: stop and say so, or empty the tables and read all rows anew."""

    timestamp_column: str = ""
    """Mode timestamp: the column that each change of a row sets, the same in all tables."""
    timestamp_overlap_s: float = Field(default=60.0, ge=0)
    """Mode timestamp: how long a transaction may take between setting the column and its commit."""

    guardian: OracleGuardian = OracleGuardian()
    """What the database is spared."""
