"""The `[source.KIND]` sections of a pipeline file: the systems that changes come from, one or several.

One of a kind: `[source.postgres]`, called "postgres". Several of a kind: `[source.postgres.erp]`, called "erp"; its
name stands in front of its tables' and partitions' names inside the flow, as Debezium's prefix does in a topic's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, Discriminator, Field, PrivateAttr, Tag, model_validator

from connectors.files.config import FilesConfig
from connectors.kafka.config import KafkaConfig
from connectors.oracle.config import OracleConfig
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.redis.config import RedisConfig
from connectors.sap.idoc_config import SapIdocConfig
from connectors.sap.odata_config import SapODataConfig
from connectors.sap.rfc_config import SapRfcConfig
from connectors.sqlite.config import SqliteConfig
from connectors.sqlserver.config import SqlServerConfig
from flows.spec_base import Section
from flows.spec_errors import NAMED, PLAIN, near

SourceConfig = (
    KafkaConfig
    | PostgresSourceConfig
    | FilesConfig
    | SqliteConfig
    | RedisConfig
    | SqlServerConfig
    | OracleConfig
    | SapODataConfig
    | SapIdocConfig
    | SapRfcConfig
)

KINDS: Mapping[str, type[BaseModel]] = {
    "kafka": KafkaConfig,
    "postgres": PostgresSourceConfig,
    "files": FilesConfig,
    "sqlite": SqliteConfig,
    "redis": RedisConfig,
    "sqlserver": SqlServerConfig,
    "oracle": OracleConfig,
    "sap_odata": SapODataConfig,
    "sap_idoc": SapIdocConfig,
    "sap_rfc": SapRfcConfig,
}
NAMES = tuple(KINDS)
TITLES = {
    "kafka": "Kafka", "postgres": "PostgreSQL", "files": "files", "sqlite": "SQLite", "redis": "Redis",
    "sqlserver": "SQL Server",
    "oracle": "Oracle",
    "sap_odata": "SAP OData", "sap_idoc": "SAP IDocs",
    "sap_rfc": "SAP RFC",
}  # fmt: skip
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,30}")
_SETTINGS = {name for kind in KINDS.values() for name in kind.model_fields}


@dataclass(frozen=True)
class OneSource:
    """One source of a pipeline.

    Args:
        name: what a table's `source` calls it: the kind, or its own name.
        kind: one of KINDS.
        settings: its section.
        prefix: in front of its tables' names inside the flow; "" where it has no name of its own.
    """

    name: str
    kind: str
    settings: SourceConfig
    prefix: str = ""

    @property
    def title(self) -> str:
        """For a person: "PostgreSQL", "PostgreSQL (erp)"."""
        return f"{TITLES[self.kind]} ({self.name})" if self.prefix else TITLES[self.kind]


def _form(value: object) -> str:
    """Whether a `[source.KIND]` holds settings, or sources by name: tables only, and none that is a setting."""
    if not isinstance(value, Mapping) or not value or _SETTINGS & set(value):
        return PLAIN
    return NAMED if all(isinstance(one, Mapping | BaseModel) for one in value.values()) else PLAIN


_Config = TypeVar("_Config")
# One field a kind, whose form is told by what stands in it: a union that is tried would report each fault twice.
_Sections = Annotated[Annotated[_Config, Tag(PLAIN)] | Annotated[dict[str, _Config], Tag(NAMED)], Discriminator(_form)]


class Source(Section):
    """`[source.KIND]`, `[source.KIND.NAME]`: at least one."""

    kafka_: _Sections[KafkaConfig] | None = Field(default=None, alias="kafka")
    postgres_: _Sections[PostgresSourceConfig] | None = Field(default=None, alias="postgres")
    files_: _Sections[FilesConfig] | None = Field(default=None, alias="files")
    sqlite_: _Sections[SqliteConfig] | None = Field(default=None, alias="sqlite")
    redis_: _Sections[RedisConfig] | None = Field(default=None, alias="redis")
    sqlserver_: _Sections[SqlServerConfig] | None = Field(default=None, alias="sqlserver")
    oracle_: _Sections[OracleConfig] | None = Field(default=None, alias="oracle")
    sap_odata_: _Sections[SapODataConfig] | None = Field(default=None, alias="sap_odata")
    sap_idoc_: _Sections[SapIdocConfig] | None = Field(default=None, alias="sap_idoc")
    sap_rfc_: _Sections[SapRfcConfig] | None = Field(default=None, alias="sap_rfc")
    _label: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _names_are_clear(self) -> Source:
        if not self.all:
            raise ValueError(f"|at least one of {', '.join(f'[source.{name}]' for name in NAMES)}|none")
        names = [one.name for one in self.all]
        for one in self.all:
            if one.prefix and not _NAME.fullmatch(one.name):
                wanted = "a name of a-z, 0-9, `_` and `-`, at most 31, starting with a letter or digit"
                raise ValueError(f"{one.kind}.{one.name}|{wanted}|{one.name!r}")
            if names.count(one.name) > 1:
                raise ValueError(f"{one.kind}|a name of its own for each source|{one.name!r} twice")
        slots = [one.settings.slot for one in self.all if isinstance(one.settings, PostgresSourceConfig)]
        if twice := [slot for slot in slots if slot is not None and slots.count(slot) > 1]:
            raise ValueError(f"postgres|a slot of its own for each source|{twice[0]!r} twice")
        return self

    @classmethod
    def only(cls, one: OneSource) -> Source:
        """A section with one source in it, under its kind; `label` remembers a name of its own."""
        section = cls.model_validate({one.kind: one.settings})
        section._label = one.name if one.prefix else ""
        return section

    @cached_property
    def all(self) -> tuple[OneSource, ...]:
        """Every source, in a fixed order."""
        found: list[OneSource] = []
        for kind in NAMES:
            given = getattr(self, f"{kind}_")
            if isinstance(given, dict):
                found += [OneSource(name, kind, settings, f"{name}.") for name, settings in given.items()]
            elif given is not None:
                found.append(OneSource(kind, kind, given))
        return tuple(found)

    @property
    def several(self) -> bool:
        """Whether there is more than one, or one with a name of its own."""
        return len(self.all) > 1 or bool(self.all[0].prefix)

    @property
    def kafka(self) -> KafkaConfig | None:
        """Kafka's settings where it is the only source, without a name of its own."""
        return None if self.several or not isinstance(self.settings, KafkaConfig) else self.settings

    @property
    def label(self) -> str:
        """The name of its own that the only source has in the pipeline file; "" where it has none."""
        return self._label

    @property
    def name(self) -> str:
        """The only source's kind; of several their names."""
        return ", ".join(one.name if self.several else one.kind for one in self.all)

    @property
    def title(self) -> str:
        """The name as a person writes it."""
        return ", ".join(one.title for one in self.all)

    @property
    def settings(self) -> SourceConfig:
        """The only source's settings. Never asked where there are several: see flows/sources.py."""
        assert len(self.all) == 1, "several sources"
        return self.all[0].settings

    def of(self, wanted: str | None) -> OneSource:
        """The source that a table names; without a name the only one. Raises ValueError "|expected|found"."""
        known = [one.name for one in self.all]
        if wanted is None and len(known) == 1:
            return self.all[0]
        if wanted not in known:
            found = "none" if wanted is None else f"{wanted!r}{near(wanted, known)}"
            raise ValueError(f"|the name of a source, one of {', '.join(known)}|{found}")
        return self.all[known.index(wanted)]


def refused(source: Source, document: Any) -> str | None:
    """What a pipeline's sources cannot do beside its [document], as "setting|expected|found"; None: nothing."""
    kinds, kafka = {one.kind for one in source.all}, source.kafka
    if document is None:
        return None
    if source.several:
        found = f"{len(source.all)} sources: {source.name}" if len(source.all) > 1 else f"one named {source.name}"
        return f"source|one source without a name beside [document], as transactions have no order across them|{found}"
    if not kinds & {"kafka", "postgres"}:
        return f"source|[source.kafka] or [source.postgres] beside [document]|[source.{source.name}]"
    if (kafka is None) != (document.transaction_topic is None):
        wanted = "a transaction_topic beside [source.kafka], and none" if kafka else "no transaction_topic"
        found = "none" if kafka else "one"
        return f"document.transaction_topic|{wanted} beside a source that is read directly|{found}"
    if kafka is not None and kafka.start != "earliest":
        return "source.kafka.start|earliest beside [document]: transactions need all of their rows|another"
    if kafka is not None and kafka.format != "debezium-json":
        return "source.kafka.format|debezium-json beside [document]: the transaction topic is read as JSON|another"
    return None
