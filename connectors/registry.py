"""The only list of systems: name -> its configuration, source and sink, each imported when it is asked for.

A driver that is not installed is therefore missed only by those who use it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from libcore.errors import ConfigurationError


@dataclass(frozen=True)
class System:
    """Where a system's parts are, as "module:name"; None where it has none.

    Args:
        name: as in `[source.NAME]` and `[sink.NAME]`.
        extra: what `pip install headrace[...]` brings its driver; "" where it needs none.
        config_path: its pydantic configuration.
        source_path: a Bytewax source of items. target_path: a connectors.base.target.Target.
    """

    name: str
    extra: str
    config_path: str
    source_path: str | None = None
    target_path: str | None = None

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
        ),
        System("null", "", "connectors.null.config:NullConfig", None, "connectors.null.sink:NullTarget"),
    )
}

DECODERS: Mapping[str, str] = {"debezium-json": "connectors.formats.debezium:DebeziumDecoder"}


def decoder(format_name: str) -> Any:
    """The class that decodes a format's messages: (topic, partition, binding, state) -> a Decoder."""
    if format_name not in DECODERS:
        raise ConfigurationError(f"expected a format of {', '.join(DECODERS)}, found {format_name!r}")
    module, _, name = DECODERS[format_name].partition(":")
    return getattr(import_module(module), name)


def system(name: str) -> System:
    """The system of that name. Raises ConfigurationError that lists the known ones."""
    if name not in SYSTEMS:
        raise ConfigurationError(f"expected one of {', '.join(SYSTEMS)}, found {name!r}")
    return SYSTEMS[name]
