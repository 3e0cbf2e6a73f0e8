"""A bank's books behind the document step: no reader ever sees them disagree, whatever is killed and when."""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from random import Random

import psycopg
import pytest

from connectors.kafka.topics import Producer, create_topics
from flows.testing import run_flow
from tests.flows.bank import Bank, Message, faults, interleaved, pipeline_text, read_books

KILLS = 4


class Reader:
    """Looks at the books all the time, each time in one snapshot."""

    def __init__(self, dsn: str, total: int) -> None:
        self.looks, self.states, self.faults = 0, 0, list[str]()
        self._dsn, self._total, self._stop = dsn, total, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        last = None
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._stop.wait(0.002):
                self.faults += faults(connection, self._total)
                self.looks += 1
                found = connection.execute("SELECT max(id) FROM transfers").fetchone()
                self.states += found != last
                last = found


def write(servers: str, messages: list[Message]) -> None:
    """Messages into their partitions, in this order."""
    producer = Producer(servers, {"linger.ms": 0})
    for name, key, value, partition in messages:
        producer.write(name, [(key, value, partition)])
    producer.flush()


def write_slowly(servers: str, messages: list[Message], seconds: float) -> None:
    """Messages in small portions, so that the flow sees transactions in every state of being incomplete."""
    random = Random(1)
    portions, at = [], 0
    while at < len(messages):
        size = random.choice((1, 3, 10, 40, 100))
        portions.append(messages[at : at + size])
        at += size
    for portion in portions:
        write(servers, portion)
        time.sleep(seconds / len(portions))


def all_run(directory: Path, processes: int) -> Callable[[], bool]:
    """Whether each process of the flow that starts now has closed an epoch; one killed earlier leaves the others
    waiting for it."""
    started = time.time()

    def ready() -> bool:
        found = [directory / "state" / "run" / f"worker-{index}.json" for index in range(processes)]
        told = [json.loads(path.read_text("utf-8")) for path in found if path.exists()]
        return sum(one["started_at"] > started and one["epochs"] > 0 for one in told) == processes

    return ready


@pytest.mark.timeout(180)
@pytest.mark.parametrize("processes", [1, 2])
def test_no_reader_sees_a_wrong_total(processes: int, broker: str, postgres: str, tmp_path: Path) -> None:
    """Balances, entries and transfers agree in every snapshot while workers are killed; in the end all is there."""
    bank = Bank(seed=processes, partitions=1 + processes, prefix=f"bank-{uuid.uuid4().hex[:8]}")
    create_topics(broker, bank.topics)
    file = tmp_path / "bank.toml"
    file.write_text(pipeline_text(bank, broker, source="batch_rows_max = 30"), encoding="utf-8")
    flow, to_end = f"flows.build:flow('{file}')", f"flows.build:flow('{file}', until_end=True)"
    environment = {"TARGET_DSN": postgres}
    write(broker, bank.snapshot())
    assert run_flow(to_end, tmp_path, environment=environment) == [0]
    messages = list(interleaved([message for _ in range(900) for message in bank.transaction()], seed=processes))
    writing = threading.Thread(target=write_slowly, args=(broker, messages, 3.0 * KILLS))
    random = Random(processes)
    with Reader(postgres, bank.total) as reader:
        writing.start()
        for _ in range(KILLS):
            victims = None if processes == 1 else [random.randrange(processes)]
            codes = run_flow(
                flow,
                tmp_path,
                processes=processes,
                kill_after_s=random.uniform(0.2, 2.5),
                ready=all_run(tmp_path, processes),
                victims=victims,
                environment=environment,
            )
            assert -9 in codes, (tmp_path / "process-0.log").read_text()[-3000:]
        writing.join()
        codes = run_flow(to_end, tmp_path, processes=processes, environment=environment, timeout_s=90)
        assert codes == [0] * processes, (tmp_path / "process-0.log").read_text()[-3000:]
    assert reader.faults == []
    assert reader.states > 20, f"the reader saw {reader.states} states in {reader.looks} looks"
    with psycopg.connect(postgres, autocommit=True) as connection:
        assert faults(connection, bank.total) == []
        assert read_books(connection) == bank.books()


@pytest.mark.timeout(120)
def test_a_row_that_the_target_refuses_tears_no_transaction(broker: str, postgres: str, tmp_path: Path) -> None:
    """The flow stops before the transaction with the row, whose other rows stay out, too; once the target takes it, the
    flow goes on; with on_bad_row = "apply" the others would have gone in."""
    bank = Bank(seed=5, prefix=f"bank-{uuid.uuid4().hex[:8]}")
    create_topics(broker, bank.topics)
    file = tmp_path / "bank.toml"
    file.write_text(pipeline_text(bank, broker, source="batch_rows_max = 20"), encoding="utf-8")
    flow, environment = f"flows.build:flow('{file}', until_end=True)", {"TARGET_DSN": postgres}
    write(broker, bank.snapshot())
    assert run_flow(flow, tmp_path, environment=environment) == [0]
    write(broker, [message for _ in range(20) for message in bank.transaction()])
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("ALTER TABLE transfers ADD CONSTRAINT small CHECK (id <> 7)")
        codes = run_flow(flow, tmp_path, environment=environment)
        log = (tmp_path / "process-0.log").read_text()
        assert codes != [0] and "a source transaction would go in without them" in log, log[-3000:]
        assert faults(connection, bank.total) == []
        assert connection.execute("SELECT max(id) < 7 OR max(id) IS NULL FROM transfers").fetchone() == (True,)
        connection.execute("ALTER TABLE transfers DROP CONSTRAINT small")
        assert run_flow(flow, tmp_path, environment=environment) == [0]
        assert faults(connection, bank.total) == []
        assert read_books(connection) == bank.books()
