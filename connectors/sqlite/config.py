"""The [source.sqlite] section: where the database is, and how it is followed."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectors.base.config import Config
from connectors.base.guardian import Guardian


class SqliteConfig(Config):
    """A SQLite database. It is opened for reading only, but by `follow = "triggers"`, which makes its log there."""

    path: str = Field(min_length=1)
    """The database file; a relative path begins at the pipeline file's directory."""
    follow: Literal["nothing", "rowid", "triggers"] = "nothing"
    """After the snapshot: end there; bring appended rows (greater rowids); or bring what triggers wrote into a log."""
    chunk_rows: int = Field(default=10_000, ge=1, le=1_000_000)
    """Rows that one query of the snapshot reads."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Rows in one batch, which is one epoch of the partition."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead."""
    poll_s: float = Field(default=0.5, ge=0.01, le=3600)
    """How often a database that had nothing new is asked again."""
    busy_timeout_s: float = Field(default=5.0, ge=0, le=3600)
    """How long one statement waits for another's lock; after it the source tries again by itself."""
    guardian: Guardian = Guardian()
    """What the database is spared. A snapshot that has begun goes on to its end: it is one read transaction."""
