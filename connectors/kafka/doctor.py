"""What is amiss with the topics of a pipeline: reachable, there, and still holding what the flow has not read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

from connectors.base.database import Finding
from connectors.kafka.cluster import Cluster
from connectors.kafka.config import KafkaConfig
from libcore.errors import ConfigurationError, HeadraceError

_ANSWER_S = 10.0
_ORDER = {"error": 0, "warning": 1, "note": 2}


def examine(config: KafkaConfig, topics: Sequence[str], positions: Mapping[str, tuple[Any, ...]]) -> list[Finding]:
    """All findings, worst first.

    Args:
        topics: those that the pipeline reads. positions: the newest durable state by "topic/partition".
    """
    quick = config.model_copy(update={"connect_s_max": min(config.connect_s_max, _ANSWER_S)})
    found: list[Finding] = []
    try:
        with closing(Cluster(quick)) as cluster:
            existing = cluster.topics()
            for topic in topics:
                if topic in existing:
                    found += _topic(config, cluster, topic, positions)
                else:
                    remedy = f"kafka-topics.sh --bootstrap-server {config.servers} --create --topic {topic}"
                    found.append(Finding("error", f"topic {topic}", "a topic of that name", "none", remedy))
    except HeadraceError as error:
        found.append(Finding("error", "cluster", f"an answer of {config.servers}", str(error)))
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _topic(
    config: KafkaConfig, cluster: Cluster, topic: str, positions: Mapping[str, tuple[Any, ...]]
) -> Iterator[Finding]:
    for number in cluster.partitions(topic):
        try:
            low, high = cluster.watermarks(topic, number)
        except ConfigurationError as error:
            yield Finding("error", f"topic {topic}", "the right to READ and DESCRIBE it", str(error))
            return
        state = positions.get(f"{topic}/{number}")
        if state is not None:
            yield from _position(config, f"{topic}/{number}", int(state[1]), low, high)
    settings = _settings(config, topic)
    retention_ms = settings.get("retention.ms", "-1")
    if retention_ms not in ("-1", "") and "compact" not in settings.get("cleanup.policy", "delete"):
        yield Finding(
            "note", f"topic {topic}", "retention longer than a flow is ever stopped",
            f"{int(retention_ms) / 86_400_000:.1f} days, and then rows that a target loaded anew would lack",
            _alter(config, topic, "retention.ms=-1"),
        )  # fmt: skip


def _position(config: KafkaConfig, place: str, position: int, low: int, high: int) -> Iterator[Finding]:
    topic = place.rpartition("/")[0]
    if position < low:
        yield Finding(
            "error", place, f"messages from offset {position} on", f"it begins at {low}: retention took "
            f"{low - position} messages that were not read",
            'on_gap = "earliest" in [source.kafka]; -- or load the target anew',
        )  # fmt: skip
    elif position > high:
        yield Finding(
            "error", place, f"a topic that reaches offset {position}", f"it ends at {high}: it was made anew",
            'on_gap = "earliest" in [source.kafka]; -- or load the target anew',
        )  # fmt: skip
    elif position < high and position - low < (high - low) // 10:
        yield Finding(
            "warning", place, "a position well inside of what the topic keeps",
            f"{position}, where it keeps {low} to {high}: the next messages to go are ones not read yet",
            _alter(config, topic, "retention.ms=-1"),
        )  # fmt: skip


def _alter(config: KafkaConfig, topic: str, setting: str) -> str:
    return (
        f"kafka-configs.sh --bootstrap-server {config.servers} --entity-type topics --entity-name {topic} --alter "
        f"--add-config {setting}"
    )


def _settings(config: KafkaConfig, topic: str) -> dict[str, str]:
    """The topic's settings; {} where the broker does not tell them."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient, ConfigResource

    own = ("queued.max.messages.kbytes", "auto.offset.reset", "enable.", "group.id", "queued.min", "fetch.")
    properties = {name: value for name, value in config.client_properties(1).items() if not name.startswith(own)}
    try:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        answers = AdminClient({**properties, "log_level": 0}).describe_configs([resource], request_timeout=_ANSWER_S)
        return {name: str(entry.value) for name, entry in answers[resource].result(_ANSWER_S).items()}
    except (KafkaException, KeyError, TimeoutError):
        return {}
