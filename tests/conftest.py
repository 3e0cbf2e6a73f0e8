"""Fixtures that everybody uses: one PostgreSQL and one broker a session, a database of its own for each test."""

from __future__ import annotations

import itertools
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from hypothesis import settings

from connectors.base import stop
from control.embedded import EmbeddedPostgres, Tansu
from tests.examples import TIMES

# no deadline, because a busy machine is no defect of what is tested
settings.register_profile("headrace", deadline=None, max_examples=100 * TIMES)
settings.load_profile("headrace")

_NUMBERS = itertools.count(1)
# the longest files: begun first, so that no worker of `make test` is still in one when the others have ended
_LONGEST = ("test_simulate", "test_fuzz", "test_canary", "test_three_way_match", "test_state_s3", "test_state_command")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, else in their order."""
    items.sort(key=lambda item: item.path.stem not in _LONGEST)


def _process_state() -> dict[str, Any]:
    """What one test could leave behind for the next: a fault then shows in another file, in some orders only."""
    # a name with a line in front is a library's own (Polars sets one when it is first imported)
    environment = {f"${name}": value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "_"))}
    handlers = {f"handler of {number.name}": signal.getsignal(number) for number in stop.SIGNALS}
    return {"logging": structlog.get_config(), "stop": stop.requested(), **handlers, **environment}


@pytest.fixture(autouse=True)
def _nothing_outlives_a_test() -> Iterator[None]:
    """Each test leaves logging, stop flag, signal handlers and environment as it found them, or fails itself."""
    before = _process_state()
    yield
    assert _process_state() == before


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
