"""How to reach a Kafka cluster and where to begin: the [source.kafka] section, and the client's properties from it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from connectors.base import secrets
from connectors.base.config import Config
from connectors.base.schema_registry import SchemaRegistryConfig
from libcore.errors import ConfigurationError

Property = str | int | float | bool | Callable[..., Any]

QUEUED_BYTES_MAX = 64 << 20
BATCH_BYTES_MAX = 32 << 20

_SECRET = re.compile(r"(password|secret|key\.pem)$")
# What the source decides itself; a passed-through value would break resuming, bounds or the end of the data.
_OWN = {
    "bootstrap.servers": "servers",
    "auto.offset.reset": "start and on_gap",
    "queued.max.messages.kbytes": "queued_bytes_max",
    "enable.auto.commit": "the recovery store, which keeps the offsets",
    "enable.auto.offset.store": "the recovery store, which keeps the offsets",
    "enable.partition.eof": "the source itself",
}


class StartOffset(Config):
    """Begin at one offset in every partition."""

    offset: int = Field(ge=0)
    """The first offset to read."""


class StartTimestamp(Config):
    """Begin at the first message written at or after a moment."""

    timestamp: datetime
    """With a time zone, or taken as UTC."""

    @property
    def timestamp_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        moment = self.timestamp if self.timestamp.tzinfo is not None else self.timestamp.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


class KafkaConfig(Config):
    """Where the cluster is, where reading begins, and its bounds. Printing it shows no property's value."""

    servers: str
    """Bootstrap servers: "host:port", several separated by commas."""
    format: Literal["debezium-json", "debezium-avro", "openlogreplicator"] = "debezium-json"
    """What the messages hold."""
    topic: str | None = Field(default=None, min_length=1)
    """The one topic that holds all tables, with openlogreplicator."""
    registry: SchemaRegistryConfig | None = None
    """Where the schemas of debezium-avro are."""
    start: Literal["earliest", "latest"] | StartOffset | StartTimestamp = "earliest"
    """Where a partition begins that has no position in the recovery store."""
    on_gap: Literal["stop", "earliest", "latest"] = "stop"
    """What to do when the next offset is no longer (or not yet) in the topic: refuse, or go on there and lose rows."""
    batch_rows_max: int = Field(default=20_000, ge=1, le=1_000_000)
    """Messages in one batch, which is one epoch of a partition."""
    queued_bytes_max: int = Field(default=QUEUED_BYTES_MAX, ge=1 << 20, le=QUEUED_BYTES_MAX)
    """Bytes that librdkafka fetches ahead, all partitions of a worker together; of five and more the busy ones are read
    ahead of it, as much again at most, and never above 40 MB."""
    connect_s_max: float = Field(default=60.0, gt=0)
    """How long a start waits for the cluster before it fails; once started, the flow waits without limit."""
    reader: Literal["auto", "c", "plain"] = "auto"
    """Which reader takes messages: the C reader where it is built and allowed, or confluent-kafka's consume."""
    properties: dict[str, Property] = Field(default_factory=dict, repr=False)
    """librdkafka properties passed through (security.protocol, sasl.*, ssl.*); text may be env:NAME or file:/path."""

    @field_validator("servers")
    @classmethod
    def _hosts(cls, servers: str) -> str:
        for server in servers.split(","):
            host, colon, port = server.strip().rpartition(":")
            if not (host and colon and port.isdigit() and 0 < int(port) < 65536):
                raise ValueError(f'expected "host:port[,host:port]", found {server.strip()!r}')
        return servers

    @field_validator("properties")
    @classmethod
    def _foreign(cls, properties: dict[str, Property]) -> dict[str, Property]:
        for name, value in properties.items():
            if name in _OWN:
                raise ValueError(f"property {name} is set by {_OWN[name]}")
            if _SECRET.search(name) and isinstance(value, str) and not secrets.is_reference(value):
                # the text itself stays out of the message
                raise ValueError(
                    f"property {name}: expected a reference to a secret ({secrets.SUPPORTED}), found plain text"
                )
        return properties

    @model_validator(mode="after")
    def _schemas_are_somewhere(self) -> KafkaConfig:
        if (self.format == "debezium-avro") != (self.registry is not None):
            raise ValueError('expected [source.kafka.registry] beside format = "debezium-avro", and nowhere else')
        return self

    @model_validator(mode="after")
    def _the_topic_is_shared(self) -> KafkaConfig:
        if (self.format == "openlogreplicator") != (self.topic is not None):
            raise ValueError('expected `topic` beside format = "openlogreplicator", and nowhere else')
        return self

    @property
    def needs_python(self) -> bool:
        """Whether a property is a Python callback, which only the plain reader can serve."""
        if any(callable(value) for value in self.properties.values()):
            return True
        names = {name.lower(): str(value).lower() for name, value in self.properties.items()}
        mechanism = names.get("sasl.mechanism", names.get("sasl.mechanisms", ""))
        return mechanism == "oauthbearer" and names.get("sasl.oauthbearer.method") != "oidc"

    def client_properties(self, partitions: int) -> dict[str, Any]:
        """librdkafka's properties for a worker's consumer of that many partitions, secrets resolved: never log them.

        Raises ConfigurationError where a secret cannot be read.
        """
        per_partition_bytes = max(64 << 10, self.queued_bytes_max // max(1, partitions))
        properties: dict[str, Any] = {
            "client.id": "headrace",
            "group.id": "headrace",  # asked for by the client; nothing is committed to it
            # Default 1000 ms: whenever the local queue is full, fetching stops for that long (166 k/s against 630 k/s).
            "fetch.queue.backoff.ms": 5,
            "queued.min.messages": 1_000_000,
            # One request at a time goes to a broker. Beside 11 idle partitions a busy one keeps 0.97 of its rate where
            # it may fill half of its share with each, 0.88 with a quarter (medians of 5 pairs).
            "fetch.message.max.bytes": max(min(1 << 20, per_partition_bytes), min(4 << 20, per_partition_bytes // 2)),
            "reconnect.backoff.ms": 100,
            "reconnect.backoff.max.ms": 2_000,
            "allow.auto.create.topics": False,
        }
        for name, value in self.properties.items():
            properties[name] = _resolved(name, value)
        properties |= {
            "bootstrap.servers": self.servers,
            "queued.max.messages.kbytes": per_partition_bytes >> 10,
            "auto.offset.reset": "error",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
        }
        return properties


def _resolved(name: str, value: Property) -> Property:
    if not isinstance(value, str):
        return value
    try:
        return secrets.plain(value)
    except ConfigurationError as error:
        raise ConfigurationError(f"source.kafka property {name}: {error}") from None
