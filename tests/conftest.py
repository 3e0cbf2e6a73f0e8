"""Fixtures that everybody uses: one PostgreSQL and one broker a session, a database of its own for each test."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator

import pytest

from control.embedded import EmbeddedPostgres, Tansu

_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[EmbeddedPostgres]:
    """One PostgreSQL for the whole session; ask for `postgres` unless the server itself is what you test."""
    # A lost commit cannot matter to a test that does not kill the server: those start one of their own.
    with EmbeddedPostgres(settings={"fsync": False}) as server:
        yield server


@pytest.fixture
def postgres(postgres_server: EmbeddedPostgres) -> Iterator[str]:
    """The dsn of an empty database, dropped after the test."""
    name = f"test_{next(_NUMBERS)}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def tansu() -> Iterator[str]:
    """Bootstrap servers of one Tansu broker for the whole session; take topic names from `topic`."""
    with Tansu() as broker:
        yield broker.servers


@pytest.fixture
def broker(tansu: str) -> str:
    """Bootstrap servers of a broker that speaks the Kafka protocol."""
    return tansu


@pytest.fixture
def topic(broker: str) -> Callable[[int], str]:
    """Makes a topic that no other test knows: call it with the partition count, get the name."""
    from connectors.kafka.topics import create_topics

    def make(partitions: int = 1) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        create_topics(broker, {name: partitions})
        return name

    return make
