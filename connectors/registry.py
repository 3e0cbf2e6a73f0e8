"""The only list of systems: name -> its configuration, source and sink, each imported when it is asked for.

A driver that is not installed is therefore missed only by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

from connectors.base.schema_registry import SchemaRegistryConfig
from libcore.errors import ConfigurationError


@dataclass(frozen=True)
class System:
    """Where a system's parts are, as "module:name"; None where it has none.

    Args:
        name: as in `[source.NAME]` and `[sink.NAME]`.
        extra: what `pip install headrace[...]` brings its driver; "" where it needs none.
        config_path: its pydantic configuration.
        source_path: a Bytewax source of items. target_path: a connectors.base.target.Target.
        changes_path: a connectors.base.database.ChangeSource, for what is read directly.
        rereads: whether a running flow can be asked to read a table again; see connectors/base/requests.py.
    """

    name: str
    extra: str
    config_path: str
    source_path: str | None = None
    target_path: str | None = None
    changes_path: str | None = None
    rereads: bool = False

    @property
    def config(self) -> Any:
        """The configuration class."""
        return self._load(self.config_path)

    @property
    def source(self) -> Any:
        """The source class. Raises ConfigurationError where there is none."""
        return self._load(self.source_path)

    @property
    def target(self) -> Any:
        """The target class. Raises ConfigurationError where there is none."""
        return self._load(self.target_path)

    @property
    def changes(self) -> Any:
        """The ChangeSource class. Raises ConfigurationError where there is none."""
        if self.changes_path is None:
            raise ConfigurationError(f"source.{self.name}: it cannot be read directly yet: read it by way of Kafka")
        return self._load(self.changes_path)

    def _load(self, path: str | None) -> Any:
        if path is None:
            raise ConfigurationError(
                f"{self.name} can only be {'a target' if self.source_path is None else 'a source'}"
            )
        module, _, name = path.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError as error:
            if error.name is not None and error.name.split(".")[0] == "connectors":
                raise
            raise ConfigurationError(
                f"{self.name}: its driver {error.name} is not installed: pip install 'headrace[{self.extra}]'"
            ) from error


SYSTEMS: Mapping[str, System] = {
    system.name: system
    for system in (
        System("kafka", "kafka", "connectors.kafka.config:KafkaConfig", "connectors.kafka.source:KafkaSource"),
        System(
            "postgres",
            "postgres",
            "connectors.postgres.config:PostgresConfig",
            None,
            "connectors.postgres.target:PostgresTarget",
            "connectors.postgres.source:PostgresChanges",
            rereads=True,
        ),
        System("files", "", "connectors.files.config:FilesConfig", changes_path="connectors.files.source:FilesChanges"),
        System(
            "sqlite",
            "",
            "connectors.sqlite.config:SqliteConfig",
            changes_path="connectors.sqlite.source:SqliteChanges",
            rereads=True,
        ),
        System(
            "redis", "redis", "connectors.redis.config:RedisConfig", changes_path="connectors.redis.source:RedisChanges"
        ),
        System(
            "sqlserver",
            "sqlserver",
            "connectors.sqlserver.config:SqlServerConfig",
            changes_path="connectors.sqlserver.source:SqlServerChanges",
            rereads=True,
        ),
        System(
            "oracle",
            "oracle",
            "connectors.oracle.config:OracleConfig",
            changes_path="connectors.oracle.source:OracleChanges",
            rereads=True,
        ),
        System(
            "sap_odata",
            "sap",
            "connectors.sap.odata_config:SapODataConfig",
            changes_path="connectors.sap.odata_source:SapODataChanges",
        ),
        System(
            "sap_idoc",
            "sap",
            "connectors.sap.idoc_config:SapIdocConfig",
            changes_path="connectors.sap.idoc_source:SapIdocChanges",
        ),
        System(
            "sap_rfc",
            "sap",
            "connectors.sap.rfc_config:SapRfcConfig",
            changes_path="connectors.sap.rfc_source:SapRfcChanges",
            rereads=True,
        ),
        System("null", "", "connectors.null.config:NullConfig", None, "connectors.null.sink:NullTarget"),
    )
}

DECODERS: Mapping[str, str] = {
    "debezium-json": "connectors.formats.debezium:DebeziumDecoder",
    "debezium-avro": "connectors.formats.avro:AvroDecoder",
    "openlogreplicator": "connectors.formats.openlogreplicator:OpenLogReplicatorDecoder",
    "pgoutput": "connectors.formats.pgoutput:PgoutputDecoder",
}


def decoder(format_name: str, schemas: SchemaRegistryConfig | None = None) -> Any:
    """What decodes a format's messages: (topic, partition, binding, state) -> a Decoder.

    Where the messages of one topic are of many tables (openlogreplicator, pgoutput), "binding" is one for each.

    Args:
        format_name: one of DECODERS. schemas: where the schemas are, for a format whose messages only name them.
    """
    if format_name not in DECODERS:
        raise ConfigurationError(f"expected a format of {', '.join(DECODERS)}, found {format_name!r}")
    module, _, name = DECODERS[format_name].partition(":")
    found = getattr(import_module(module), name)
    if schemas is None:
        return found
    from connectors.formats.registry_clients import open_registry
    from libcore.avro import Framing

    return partial(found, registry=open_registry(schemas), framing=Framing[schemas.framing.upper()])


def system(name: str) -> System:
    """The system of that name. Raises ConfigurationError that lists the known ones."""
    if name not in SYSTEMS:
        raise ConfigurationError(f"expected one of {', '.join(SYSTEMS)}, found {name!r}")
    return SYSTEMS[name]
