"""The Kafka source inside real Bytewax flows: crashes and resumes, idle partitions, several workers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
import pytest
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition
from bytewax.outputs import FixedPartitionedSink, StatefulSinkPartition
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.testing import cluster_main, run_main

from connectors.kafka.source import KafkaSource
from connectors.kafka.topics import create_topics
from tests.connectors.kafka_parts import source, texts, write

pytestmark = pytest.mark.real


class Counted(FixedPartitionedSource):
    """A source that notes what each partition is asked for."""

    def __init__(self, inner: KafkaSource) -> None:
        self.inner = inner
        self.rows: dict[str, list[int]] = {}
        self.epochs: dict[str, int] = {}

    def list_parts(self) -> list[str]:
        """The inner source's."""
        return self.inner.list_parts()

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> StatefulSourcePartition:
        """The inner source's, counted."""
        self.rows[for_part], self.epochs[for_part] = [], 0
        return CountedPartition(self, for_part, self.inner.build_part(step_id, for_part, resume_state))


class CountedPartition(StatefulSourcePartition):
    """One partition of Counted."""

    def __init__(self, source: Counted, name: str, inner: Any) -> None:
        self.source, self.name, self.inner = source, name, inner

    def next_batch(self) -> list[Any]:
        """Counts the rows of the call."""
        items = self.inner.next_batch()
        self.source.rows[self.name].append(len(texts(items)))
        return items

    def next_awake(self) -> Any:
        """The inner partition's."""
        return self.inner.next_awake()

    def snapshot(self) -> Any:
        """Counts the epoch."""
        self.source.epochs[self.name] += 1
        return self.inner.snapshot()

    def close(self) -> None:
        """The inner partition's."""
        self.inner.close()


class Kept(FixedPartitionedSink):
    """Keeps in `durable`, by part, what the last snapshot held, as a sink does that loses nothing it confirmed."""

    def __init__(self, durable: dict[str, list[str]], fail_after: int | None = None) -> None:
        self.durable, self.fail_after = durable, fail_after

    def list_parts(self) -> list[str]:
        """One part."""
        return ["0"]

    def build_part(self, step_id: str, for_part: str, resume_state: Any) -> StatefulSinkPartition:
        """The part."""
        return KeptPart(self, list(resume_state or []))


class KeptPart(StatefulSinkPartition):
    """One part of Kept; its state is all rows so far."""

    def __init__(self, sink: Kept, rows: list[str]) -> None:
        self.sink, self.all = sink, rows
        self.count = 0

    def write_batch(self, values: list[Any]) -> None:
        """Keep the rows, or die."""
        self.all += [text for item in values for text in texts([item])]
        self.count += 1
        if self.sink.fail_after is not None and self.count > self.sink.fail_after:
            raise RuntimeError("crash")

    def snapshot(self) -> list[str]:
        """All rows so far."""
        self.sink.durable["0"] = list(self.all)
        return list(self.all)


def text_flow(made: FixedPartitionedSource, sink: FixedPartitionedSink) -> Dataflow:
    """source -> one sink part."""
    flow = Dataflow("texts")
    items = op.input("source", flow, made)
    op.output("sink", op.key_on("part", items, lambda item: "0"), sink)
    return flow


def test_a_crashed_flow_resumes_without_loss_or_double(
    tansu: str, topic: Callable[[int], str], reader: str, tmp_path: Path
) -> None:
    """A Bytewax flow that dies again and again, each time later, ends with every message of three partitions once."""
    name = topic(3)
    for number in range(3):
        write(tansu, name, [f"{number}-{index}" for index in range(60)], number)
    init_db_dir(tmp_path, 1)
    durable: dict[str, list[str]] = {}
    for fail_after in (1, 5, 11, None):
        made = source(tansu, [name], reader=reader, until_end=True, batch_rows_max=3)
        flow = text_flow(made, Kept(durable, fail_after))
        run = {"epoch_interval": timedelta(0), "recovery_config": RecoveryConfig(str(tmp_path))}
        if fail_after is None:
            run_main(flow, **run)
        else:
            with pytest.raises(RuntimeError, match="crash"):
                run_main(flow, **run)
    assert sorted(durable["0"]) == sorted(f"{number}-{index}" for number in range(3) for index in range(60))
    for number in range(3):
        mine = [text for text in durable["0"] if text.startswith(f"{number}-")]
        assert mine == [f"{number}-{index}" for index in range(60)]


def busy_epochs(tansu: str, name: str, partitions: int, reader: str) -> tuple[int, int]:
    """(epochs, calls with rows) that the busy partition 0 of a topic needed for its 20,000 rows in a real flow."""
    create_topics(tansu, {name: partitions})
    write(tansu, name, [str(index) for index in range(20_000)])
    counted = Counted(source(tansu, [name], reader=reader, until_end=True, batch_rows_max=100))
    durable: dict[str, list[str]] = {}
    run_main(text_flow(counted, Kept(durable)), epoch_interval=timedelta(0))
    assert len(durable["0"]) == 20_000
    assert len(counted.rows) == partitions
    rows = [count for count in counted.rows[f"{name}/0"] if count]
    return counted.epochs[f"{name}/0"], len(rows)


def test_idle_partitions_do_not_hold_back_a_busy_one(tansu: str, reader: str) -> None:
    """Beside 11 idle partitions a busy one brings its rows in calls as full as alone: at least 90 % of R rows each."""
    _, alone = busy_epochs(tansu, f"alone-{reader}", 1, reader)
    _, beside = busy_epochs(tansu, f"beside-{reader}", 12, reader)
    assert alone >= 200
    assert 200 <= beside <= 200 / 0.9
    assert beside <= alone / 0.9


def test_two_workers_share_the_partitions(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """Two workers of one cluster read each partition once between them."""
    name = topic(4)
    for number in range(4):
        write(tansu, name, [f"{number}-{index}" for index in range(50)], number)
    durable: dict[str, list[str]] = {}
    made = source(tansu, [name], reader=reader, until_end=True)
    cluster_main(text_flow(made, Kept(durable)), [], 0, epoch_interval=timedelta(0), worker_count_per_proc=2)
    assert sorted(durable["0"]) == sorted(f"{number}-{index}" for number in range(4) for index in range(50))
