"""The `[source.NAME]` section of a pipeline file: exactly one system that changes come from."""

from __future__ import annotations

from pydantic import model_validator

from connectors.files.config import FilesConfig
from connectors.kafka.config import KafkaConfig
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.redis.config import RedisConfig
from connectors.sqlite.config import SqliteConfig
from flows.spec_base import Section

SourceConfig = KafkaConfig | PostgresSourceConfig | FilesConfig | SqliteConfig | RedisConfig

NAMES = ("kafka", "postgres", "files", "sqlite", "redis")
TITLES = {"kafka": "Kafka", "postgres": "PostgreSQL", "files": "files", "sqlite": "SQLite", "redis": "Redis"}


class Source(Section):
    """`[source.NAME]`: exactly one."""

    kafka: KafkaConfig | None = None
    postgres: PostgresSourceConfig | None = None
    files: FilesConfig | None = None
    sqlite: SqliteConfig | None = None
    redis: RedisConfig | None = None

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [name for name in NAMES if getattr(self, name) is not None]
        if len(given) != 1:
            sections = ", ".join(f"[source.{name}]" for name in NAMES)
            raise ValueError(f"|exactly one of {sections}|{' and '.join(given) or 'none'}")
        return self

    @property
    def name(self) -> str:
        """kafka, postgres, files, sqlite or redis."""
        return next(name for name in NAMES if getattr(self, name) is not None)

    @property
    def title(self) -> str:
        """The name as a person writes it."""
        return TITLES[self.name]

    @property
    def settings(self) -> SourceConfig:
        """The one source's settings."""
        settings: SourceConfig = getattr(self, self.name)
        return settings
