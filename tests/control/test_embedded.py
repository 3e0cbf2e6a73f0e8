"""The embedded servers start, answer, survive a crash with their data, and never outlive their starter."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from pyarrow import fs

from connectors.kafka.topics import create_topics, produce
from control.embedded import ApacheKafka, EmbeddedPostgres, S3Proxy, ServerError, Tansu
from libcore.errors import TransientError

_ROOT = Path(__file__).parents[2]


def _messages(servers: str, topic: str, partition: int, count: int) -> list[tuple[bytes | None, bytes | None]]:
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": servers, "group.id": "none", "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found: list[tuple[bytes | None, bytes | None]] = []
    deadline = time.monotonic() + 20
    while len(found) < count and time.monotonic() < deadline:
        for message in consumer.consume(count, 0.2):
            assert message.error() is None
            found.append((message.key(), message.value()))
    consumer.close()
    return found


def _gone(pid: int) -> bool:
    """True where the process ended (a zombie has ended too)."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except FileNotFoundError:
        return True


def test_postgres_keeps_its_data_over_kill_and_stop(tmp_path: Path) -> None:
    """A committed row is there after kill -9 of the server and after each way to stop it."""
    with EmbeddedPostgres() as server:
        dsn = server.create_database("ledger")
        assert server.execute("SHOW fsync") == "on" and server.execute("SHOW wal_level") == "logical"
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE t (a int)")
        for number, end in enumerate((server.kill, server.stop, lambda: server.stop("immediate"))):
            with psycopg.connect(dsn) as connection:
                connection.execute("INSERT INTO t VALUES (%s)", [number])
            end()
            assert not server.running
            server.start()
            with psycopg.connect(dsn) as connection:
                rows = connection.execute("SELECT count(*) FROM t").fetchone()
            assert rows == (number + 1,)
        directory = server.directory
    assert not directory.exists()


def test_postgres_password_and_settings() -> None:
    """A server with a password lets nobody in without it, and takes the caller's settings."""
    with EmbeddedPostgres(password="p w:/@'\"", settings={"work_mem": "7MB"}) as server:
        assert server.execute("SHOW work_mem") == "7MB"
        with psycopg.connect(server.dsn()) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(f"postgresql://postgres:wrong@127.0.0.1:{server.port}/postgres")


def test_postgres_says_why_it_does_not_start() -> None:
    """A server that ends at its start gives the text of its log, and leaves no directory."""
    server = EmbeddedPostgres(settings={"shared_buffers": "nonsense"})
    with pytest.raises(ServerError, match="nonsense"), server:
        raise AssertionError("it must not start")
    assert not server.directory.exists()


def test_a_fresh_database_each(postgres: str) -> None:
    """The fixture's database is empty."""
    with psycopg.connect(postgres) as connection:
        tables = connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    assert tables == (0,)


def test_tansu_gives_back_what_was_written(broker: str, topic: Callable[[int], str]) -> None:
    """Messages come back in order, NULL keys and values too, from the partition asked for."""
    name = topic(2)
    sent: list[tuple[bytes | None, bytes | None]] = [(b"k", b"1"), (None, b"2"), (b"k", None), (b"", b"")]
    assert produce(broker, name, [(key, value, 1) for key, value in sent]) == 4
    assert _messages(broker, name, 1, 4) == sent


def test_a_topic_that_exists_is_refused(broker: str, topic: Callable[[int], str]) -> None:
    """Creating a topic twice names the topic and gives the broker's text."""
    name = topic(1)
    with pytest.raises(TransientError, match=name):
        create_topics(broker, {name: 1})


def test_tansu_restarts_on_its_port() -> None:
    """After a kill the broker comes back at the same address, without its topics."""
    with Tansu() as server:
        servers, before = server.servers, server.pid
        server.kill()
        with pytest.raises(ServerError, match="does not run"):
            server.pid  # noqa: B018 - the property raises
        server.start()
        assert (server.servers, server.pid == before) == (servers, False)
        create_topics(server.servers, {"again": 1})


def test_apache_kafka_keeps_messages_over_a_kill() -> None:
    """Apache Kafka has its messages on disk after kill -9 and a restart; without Java it says so."""
    if not ApacheKafka.available():
        with pytest.raises(ServerError, match="Java"), ApacheKafka():
            raise AssertionError("it must not start")
        return
    with ApacheKafka() as server:
        create_topics(server.servers, {"t": 1})
        produce(server.servers, "t", [(b"a", b"1"), (b"b", b"2")])
        server.kill()
        server.start()
        assert _messages(server.servers, "t", 0, 2) == [(b"a", b"1"), (b"b", b"2")]


def test_s3proxy_keeps_objects_over_a_kill(monkeypatch: pytest.MonkeyPatch) -> None:
    """The object store has its objects after kill -9 and a restart, and lets nobody in with a wrong key."""
    if not S3Proxy.available():
        with pytest.raises(ServerError, match="Java"), S3Proxy():
            raise AssertionError("it must not start")
        return
    with S3Proxy() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store, folder = fs.FileSystem.from_uri(server.uri("some/place"))
        with store.open_output_stream(f"{folder}/one") as sink:
            sink.write(b"text")
        server.kill()
        server.start()
        with store.open_input_file(f"{folder}/one") as source:
            assert source.read() == b"text"
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
        store, folder = fs.FileSystem.from_uri(server.uri("some/place"))
        with pytest.raises(OSError, match=r"ACCESS_DENIED|SIGNATURE_DOES_NOT_MATCH"):
            store.get_file_info(fs.FileSelector(folder))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_its_starter(number: signal.Signals) -> None:
    """When the process that started a server dies, even by kill -9, the server ends."""
    program = (
        "import time; from control.embedded import Tansu, EmbeddedPostgres\n"
        "tansu, postgres = Tansu().start(), EmbeddedPostgres().start()\n"
        "print(tansu.pid, postgres.pid, tansu.directory, postgres.directory, flush=True); time.sleep(60)"
    )
    starter = subprocess.Popen([sys.executable, "-c", program], cwd=_ROOT, stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    words = starter.stdout.readline().split()
    pids = [int(word) for word in words[:2]]
    assert not any(_gone(pid) for pid in pids)
    os.kill(starter.pid, number)
    starter.wait(10)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not all(_gone(pid) for pid in pids):
        time.sleep(0.02)
    assert all(_gone(pid) for pid in pids)
    subprocess.run(["rm", "-rf", *words[2:]], check=True)
