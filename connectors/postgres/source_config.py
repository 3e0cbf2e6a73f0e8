"""The [source.postgres] section: a PostgreSQL database read directly, by a snapshot and a replication slot."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from connectors.base.config import Config
from connectors.base.guardian import Guardian
from connectors.base.secrets import Reference


class PostgresGuardian(Guardian):
    """`[source.postgres.guardian]`: what the source database is spared."""

    sessions_max: int = Field(default=8, ge=5, le=100)
    """Sessions at the source for one slot, all together; `parallel` is held to what they leave."""
    query_seconds_max: float = Field(default=0.0, ge=0, le=86_400)
    """A query that takes longer is given up, and its rows are read again in smaller pieces; 0: no bound."""
    transaction_seconds_max: float = Field(default=300.0, gt=0)
    """`headrace doctor` tells of transactions at the source that are open for longer."""
    retained_bytes_max: int = Field(default=0, ge=0)
    """Log that the server may keep for the slot before `on_retained` is done; 0: no bound."""
    on_retained: Literal["wait", "drop_slot"] = "wait"
    """Above it: wait and warn, or drop the slot, say so and stop: what came since is then lost to the target."""

    @property
    def parallel_max(self) -> int:
        """Sessions that a snapshot may read with: beside it are those of catalog, slot, plan and watch."""
        return self.sessions_max - 4


class PostgresSourceConfig(Config):
    """Where the database is, and by which slot and publication it is followed."""

    dsn: Reference
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

    slots: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """More slots: what stands behind the slot's name -> patterns of tables that it brings; the others are the first's.

    Each has a publication of its own. Order holds within a slot only.
    """
    read_by: Literal["stream", "functions"] = "stream"
    """By a walsender, or by SQL functions, where the server lets no replication connection in: slower, and later."""
    streaming: bool = False
    """Take large transactions while they are still open, and keep them on disk until their commit."""
    failover: bool = True
    """Make the slot one that PostgreSQL 17 and newer keep on their standbys, too, where these are set up for it."""
    reader: Literal["auto", "c", "plain"] = "auto"
    """Which reader takes what the server sends: the C reader where it is built, or the driver's calls."""

    guardian: PostgresGuardian = PostgresGuardian()
    """What the database is spared."""

    @field_validator("slots")
    @classmethod
    def _names(cls, slots: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for name in slots:
            if not re.fullmatch("[a-z0-9_]{1,20}", name):
                raise ValueError(f"expected names of a-z, 0-9 and _, at most 20, found {name!r}")
        return slots
