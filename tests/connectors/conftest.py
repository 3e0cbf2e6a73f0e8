"""Which modules this machine can run, and the readers of Kafka that it has."""

from __future__ import annotations

import shutil

import pytest

from connectors.kafka import c_reader
from control.embedded import ApacheKafka

READERS = ["plain", *([] if c_reader.missing() else ["c"])]

collect_ignore = [] if ApacheKafka.available() else ["test_kafka_apache.py", "test_kafka_secured.py"]
collect_ignore += [] if shutil.which("redis-server") else ["test_redis_source.py"]


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    """The kind of each reader that is built here."""
    return request.param
