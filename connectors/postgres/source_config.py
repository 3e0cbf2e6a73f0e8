"""The [source.postgres] section: a PostgreSQL database read directly, by a snapshot and a replication slot."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from connectors.base.config import Config
from connectors.base.secrets import SUPPORTED, is_reference


class PostgresSourceConfig(Config):
    """Where the database is, and by which slot and publication it is followed."""

    dsn: str
    """Reference to the connection string (env:NAME or file:/path): a URL or key=value pairs, as libpq reads them."""
    slot: str | None = Field(default=None, min_length=1, max_length=63, pattern="^[a-z0-9_]+$")
    """The replication slot; default: headrace_ and the pipeline's name."""
    publication: str | None = Field(default=None, min_length=1, max_length=63)
    """The publication; default: headrace_ and the pipeline's name."""
    snapshot: Literal["initial", "never"] = "initial"
    """Whether the rows that are there at the first start are read."""
    chunk_rows: int = Field(default=200_000, ge=1, le=10_000_000)
    """About how many rows one query of the snapshot reads; a crash repeats at most one such chunk."""
    parallel: int = Field(default=2, ge=1, le=64)
    """Sessions that read the snapshot at a time."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows in one batch, which is one epoch of a partition."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""

    streaming: bool = False
    """Take large transactions while they are still open, and keep them on disk until their commit."""
    failover: bool = True
    """Make the slot one that PostgreSQL 17 and newer keep on their standbys, too, where these are set up for it."""
    reader: Literal["auto", "c", "plain"] = "auto"
    """Which reader takes what the server sends: the C reader where it is built, or the driver's calls."""

    @field_validator("dsn")
    @classmethod
    def _is_reference(cls, dsn: str) -> str:
        if not is_reference(dsn):
            # the text itself stays out of the message: a password may stand in it
            raise ValueError(f"expected a reference to a secret ({SUPPORTED}), found plain text")
        return dsn
