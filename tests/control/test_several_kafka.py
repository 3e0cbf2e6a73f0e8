"""Kafka as one of several sources, real parts: its broker killed, and topics of one name in two clusters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors.base.metrics import LAG_OFFSETS
from connectors.kafka.topics import create_topics, produce
from control.embedded import ApacheKafka, EmbeddedPostgres, Tansu
from tests.connectors.contract_source import Followed
from tests.connectors.kafka_parts import Gate
from tests.connectors.test_kafka_source import gated  # noqa: F401
from tests.control.several_parts import Running
from tests.examples import TIMES

pytestmark = pytest.mark.real

_COLUMNS = 'key = ["id"]\ncolumns = { id = "int64", n = "int64" }'
_SHOP = """
name = "shop"

[source.kafka]
servers = "{servers}"
connect_s_max = 1

[source.postgres.erp]
dsn = "env:SHOP_ERP"

[tables.orders]
source = "kafka"
topic = "orders"
{columns}

[tables.items]
source = "erp"
topic = "public.items"
write = true

[sink.postgres]
dsn = "env:SHOP_TARGET"
table = "{{table}}"
"""


class GatedBroker:
    """A broker whose connections are cut and refused, as a dead one's are, and that keeps its topics meanwhile."""

    def __init__(self, servers: str, gate: Gate) -> None:
        self.servers, self.kill, self.start = servers, gate.shut, gate.open


@pytest.fixture
def broker_that_dies(request: pytest.FixtureRequest) -> Iterator[ApacheKafka | GatedBroker]:
    """A gate in front of Tansu, which a kill would cost its topics; Apache Kafka in the long runs, where Java is."""
    if TIMES == 1 or not ApacheKafka.available():
        yield GatedBroker(*request.getfixturevalue("gated"))
        return
    with ApacheKafka() as broker:
        yield broker


def _orders(servers: str, changes: dict[int, int]) -> None:
    rows = [{"id": number, "n": n} for number, n in changes.items()]
    produce(
        servers,
        "orders",
        [(b'{"id":%d}' % row["id"], json.dumps({"before": None, "after": row, "op": "c"}).encode()) for row in rows],
    )


def test_a_broker_that_dies_does_not_stop_a_database(
    broker_that_dies: ApacheKafka | GatedBroker, postgres: str, postgres_server: EmbeddedPostgres, tmp_path: Path
) -> None:
    """Killed: the database's rows arrive, over a restart too; when the broker is back, its rows do, each once."""
    broker, erp = broker_that_dies, postgres_server.create_database("shop_erp")
    create_topics(broker.servers, {"orders": 2})
    wanted = dict.fromkeys(range(100), 1)
    _orders(broker.servers, wanted)
    environment = {"SHOP_ERP": erp, "SHOP_TARGET": postgres}
    with Running(tmp_path, _SHOP.format(servers=broker.servers, columns=_COLUMNS), postgres, environment) as flow:

        def orders_arrived() -> bool:
            return dict(flow.rows(postgres, "SELECT id, n FROM orders")) == wanted

        flow.write(erp, "CREATE TABLE items (item int PRIMARY KEY, n int)")
        flow.write(erp, "INSERT INTO items VALUES (1, 1)")
        flow.start()
        flow.until(orders_arrived)
        broker.kill()
        flow.write(erp, "INSERT INTO items VALUES (2, 2)")
        flow.arrived("items", erp)
        flow.stop()
        flow.start()
        flow.write(erp, "UPDATE items SET n = -n")
        flow.arrived("items", erp)
        assert flow.status()["failed_sources"] == {}
        broker.start()
        wanted |= dict.fromkeys(range(50, 150), 2)
        _orders(broker.servers, dict.fromkeys(range(50, 150), 2))
        flow.until(orders_arrived)
        flow.write(erp, "DELETE FROM items WHERE item = 1")
        flow.arrived("items", erp)
        flow.stop()
        flow.write(erp, "SELECT pg_drop_replication_slot('headrace_shop_erp')")
    postgres_server.drop_database("shop_erp")


_CLUSTERS = """
name = "clusters"
[source.kafka.east]
servers = "{east}"
batch_rows_max = 1
[source.kafka.west]
servers = "{west}"
batch_rows_max = 1
[tables.east]
source = "east"
topic = "orders"
target = "east"
{columns}
[tables.west]
source = "west"
topic = "orders"
target = "west"
{columns}
[sink.null]
"""


def test_topics_of_one_name_have_a_lag_each(tansu: str, tmp_path: Path) -> None:
    """The lag of a topic that two clusters have is told apart by the source's name."""
    with Tansu() as other:
        for servers, ids in ((tansu, range(5)), (other.servers, range(100, 107))):
            create_topics(servers, {"orders": 1})
            _orders(servers, dict.fromkeys(ids, 0))
        file = tmp_path / "clusters.toml"
        file.write_text(_CLUSTERS.format(east=tansu, west=other.servers, columns=_COLUMNS), "utf-8")
        lags = [LAG_OFFSETS.labels(name, "0")._value for name in ("east.orders", "west.orders")]
        followed = Followed(file, tmp_path / "state")
        most = [0.0, 0.0]

        def all_read() -> bool:
            most[:] = [max(seen, lag.get()) for seen, lag in zip(most, lags, strict=True)]
            return len(followed.tables.get("orders", {})) == 12

        followed.until(all_read)
        assert [lag.get() for lag in lags] == [0, 0]
        assert 0 < most[0] <= 5
        assert 0 < most[1] <= 7
        followed.close()
