"""The [source.redis] section: where the server is, which group reads, and what the entries hold."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectors.base.config import Config
from connectors.base.secrets import Reference


class RedisConfig(Config):
    """A Redis server (7.0 or newer) and the consumer group of this pipeline; streams are named by [tables.X] topic."""

    url: Reference
    """Reference to the address (env:NAME or file:/path): redis://, rediss:// or unix://, with user and password."""
    group: str | None = Field(default=None, min_length=1)
    """The consumer group; default: headrace_ and the pipeline's name. No other reader may use it."""
    format: Literal["debezium-json", "fields"] = "debezium-json"
    """What an entry holds: a Debezium event (compact or extended), or the row's columns as fields."""
    start: Literal["earliest", "latest"] = "earliest"
    """Where a stream begins that has no position in the recovery store."""
    on_gap: Literal["stop", "earliest"] = "stop"
    """What to do when entries were trimmed before they were read: refuse, or go on behind them and lose rows."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Entries in one batch, which is one epoch of a stream."""
    queued_bytes_max: int = Field(default=64 << 20, ge=1 << 20, le=1 << 30)
    """Bytes read ahead, for each stream."""
    poll_s: float = Field(default=0.02, ge=0.001, le=3600)
    """How often a stream that had nothing new is asked again."""
    answer_s_max: float = Field(default=10.0, gt=0)
    """How long one answer may take; after it the source tries again by itself."""
