"""The Kafka source against a real broker, through both readers: offsets, quota, end, gaps, a broker that goes away."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectors.base import stop
from connectors.base.items import Tick, Truncate
from connectors.base.metrics import LAG_OFFSETS
from connectors.kafka import cluster
from connectors.kafka.config import KafkaConfig
from connectors.kafka.reader import reader_factory
from connectors.kafka.source import list_topics
from connectors.kafka.topics import create_topics, produce
from control.embedded import Tansu
from flows.ports import free_port
from libcore.change import ChangeBatch
from libcore.errors import ConfigurationError
from tests.connectors.kafka_parts import Gate, TextDecoder, epochs, partition, shape, source, texts, until, write

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def numbers(tansu: str) -> str:
    """A topic of one partition with the texts 0 to 999."""
    create_topics(tansu, {"numbers": 1})
    produce(tansu, "numbers", [(b"k", str(number).encode()) for number in range(1000)])
    return "numbers"


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 12), max_size=4), rows_max=st.integers(1, 400))
def test_offsets_resume_exactly(tansu: str, numbers: str, reader: str, cuts: list[int], rows_max: int) -> None:
    """Stopped after any epochs and resumed from the last state, a partition brings every message once and in order."""
    seen: list[str] = []
    state = None
    for count in [*cuts, None]:
        made = source(tansu, [numbers], until_end=True, reader=reader, batch_rows_max=rows_max)
        with partition(made, "numbers/0", state) as part:
            for epoch, (items, snapshot) in enumerate(epochs(part), 1):
                assert len(texts(items)) <= rows_max
                seen += texts(items)
                state = snapshot
                if epoch == count:
                    break
    assert seen == [str(number) for number in range(1000)]
    assert state == (1, 1000, 1000)


def test_each_message_comes_whole(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """Key, value, offset and time come as they are: NULL stays NULL, empty stays empty, a large value stays whole."""
    name = topic(2)
    sent = [(None, b"a"), (b"", b""), ("\u00e7".encode(), None), (b"k", bytes(range(256)) * 2000), (b"last", b"z")]
    produce(tansu, name, [(key, value, 1) for key, value in sent])
    factory = reader_factory(KafkaConfig(servers=tansu, reader=reader), 2)
    assert factory.kind == reader
    opened = factory.open(name, 1, 0)
    rows: list[dict[str, Any]] = []
    while len(rows) < len(sent):
        if (record := opened.poll(2, 1 << 20)) is not None:
            record.validate(full=True)
            assert record.num_rows <= 2
            rows += record.to_pylist()
    opened.close()
    factory.close()
    assert [(row["key"], row["value"]) for row in rows] == sent
    assert [row["offset"] for row in rows] == list(range(len(sent)))
    assert all(row["timestamp_ms"] > 1_600_000_000_000 for row in rows)


def test_a_batch_is_bounded_in_bytes(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """A batch ends before its keys and values pass the bound; a message that alone is larger comes alone."""
    name = topic(1)
    produce(tansu, name, [(b"k", b"x" * size, 0) for size in (400, 400, 5000, 400, 400, 400)])
    factory = reader_factory(KafkaConfig(servers=tansu, reader=reader), 1)
    opened = factory.open(name, 0, 0)
    sizes: list[list[int]] = []
    while sum(map(len, sizes)) < 6:
        if (record := opened.poll(1000, 1000)) is not None:
            sizes.append([len(value) for value in record.column("value").to_pylist()])
    opened.close()
    factory.close()
    assert [5000] in sizes
    assert all(sum(batch) + len(batch) <= 1000 for batch in sizes if batch != [5000])


def test_the_quota_holds_under_any_epoch(tansu: str, numbers: str, reader: str) -> None:
    """However often next_batch is called in an epoch, it brings at most batch_rows_max rows; the next one goes on."""
    with partition(source(tansu, [numbers], reader=reader, batch_rows_max=70), "numbers/0") as part:
        until(part, lambda items: len(texts(items)) >= 70)
        for _ in range(3):
            rows: list[str] = []
            while len(rows) < 70:
                rows += texts(part.next_batch())
            assert len(rows) == 70
            assert [part.next_batch() for _ in range(5)] == [[]] * 5
            part.snapshot()


def test_every_epoch_with_rows_is_followed_by_a_tick(tansu: str, numbers: str, reader: str) -> None:
    """An epoch with rows ends with a Tick; when no more come, one epoch more has a Tick alone, and only one."""
    with partition(source(tansu, [numbers], reader=reader, batch_rows_max=400), "numbers/0") as part:
        until(part, lambda items: len(texts(items)) == 1000)
        after = [shape(part.next_batch()) for _ in range(1) if part.snapshot()]
        part.snapshot()
        after += [shape(items) for items, _ in [next(epochs(part)) for _ in range(4)]]
    assert after == ["t", "", "", "", ""]


def test_until_end_stops_at_the_first_end_seen(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """Messages that come after the end was seen are left for the next run, which starts right there."""
    name = topic(1)
    write(tansu, name, ["a", "b", "c"])
    seen: list[str] = []
    kinds: list[str] = []
    with partition(source(tansu, [name], until_end=True, reader=reader, batch_rows_max=2), f"{name}/0") as part:
        for items, snapshot in epochs(part):
            state = snapshot
            if items and not seen:
                write(tansu, name, ["d", "e"])
                while part._reader.watermarks()[1] < 5:  # until they are here, behind what is not yet read
                    time.sleep(0.001)
            seen += texts(items)
            kinds += [shape(items)] if items else []
    assert seen == ["a", "b", "c"]
    assert kinds == ["bt", "bt", "t"]
    assert state[1] == 3
    with partition(source(tansu, [name], until_end=True, reader=reader), f"{name}/0", state) as part:
        assert [text for items, _ in epochs(part) for text in texts(items)] == ["d", "e"]


def test_an_empty_partition_ends_too(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """until_end on a partition without a message: one Tick, then the end."""
    name = topic(1)
    with partition(source(tansu, [name], until_end=True, reader=reader), f"{name}/0") as part:
        assert [shape(items) for items, _ in epochs(part) if items] == ["t"]


def test_a_stop_request_ends_at_a_batch_border(tansu: str, numbers: str, reader: str) -> None:
    """After a stop request: one epoch with a Tick, then StopIteration; the state is that of the rows brought."""
    with partition(source(tansu, [numbers], reader=reader, batch_rows_max=100), "numbers/0") as part:
        _, before = until(part, lambda items: len(texts(items)) >= 300)
        stop.request()
        try:
            rest = list(epochs(part))
        finally:
            stop.reset()
    assert [(shape(items), state) for items, state in rest] == [("t", before)]


def test_a_truncate_has_an_epoch_of_its_own(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """Rows before and after a truncate are in other epochs, even when one epoch is open for many calls."""
    name = topic(1)
    write(tansu, name, ["a", "b", "truncate", "c", "truncate"])
    seen: list[str] = []
    with partition(source(tansu, [name], until_end=True, reader=reader), f"{name}/0") as part:
        ended = False
        while not ended:
            items: list[Any] = []
            for _ in range(20):
                try:
                    items += part.next_batch()
                except StopIteration:
                    ended = True
                    break
            _, offset, decoded = part.snapshot()
            assert offset == decoded, "the decoder's state is not that of the offset"
            seen.append(shape(items))
            assert sum(isinstance(item, Truncate) for item in items) <= 1
    assert "".join(seen).replace("t", "") == "bTbT"
    assert not any("T" in epoch and "b" in epoch for epoch in seen)


def test_start_at_an_offset(tansu: str, numbers: str, reader: str) -> None:
    """start = {offset} begins there; earliest begins at the first message."""
    for start, first in (({"offset": 990}, "990"), ("earliest", "0")):
        with partition(source(tansu, [numbers], reader=reader, start=start, until_end=True), "numbers/0") as part:
            items, _ = until(part, lambda items: len(texts(items)) > 0)
            assert texts(items)[0] == first


def test_a_new_partition_begins_at_its_first_message(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """Where a topic has been read before, a partition without a position is new and read whole, whatever start says."""
    name = topic(2)
    for number in (0, 1):
        write(tansu, name, ["x", "y"], number)
    made = source(tansu, [name], reader=reader, start={"offset": 1}, until_end=True)
    assert made.list_parts() == [f"{name}/0", f"{name}/1"]
    old = made.build_part("source", f"{name}/0", (1, 2, 0))
    new = made.build_part("source", f"{name}/1", None)
    assert [text for items, _ in epochs(old) for text in texts(items)] == []
    assert [text for items, _ in epochs(new) for text in texts(items)] == ["x", "y"]
    old.close()
    new.close()


def test_a_missing_topic_is_refused(tansu: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A topic that does not exist stops the start, and the message says what helps."""
    monkeypatch.setattr(cluster, "TOPIC_WAIT_S", 0.3)
    with pytest.raises(ConfigurationError, match=r"topic nowhere: .*create it or correct its name"):
        source(tansu, ["nowhere"], connect_s_max=1.0).list_parts()


def test_topics_are_listed_with_their_partitions(tansu: str, topic: Callable[[int], str]) -> None:
    """list_topics gives every topic with its partition count."""
    name = topic(3)
    assert list_topics(KafkaConfig(servers=tansu))[name] == 3


def test_an_idle_partition_is_rarely_asked(tansu: str, topic: Callable[[int], str], reader: str) -> None:
    """A partition without news sleeps: it is asked for at most one batch in each 10 ms, the busy one at every turn."""
    name = topic(1)
    with partition(source(tansu, [name], reader=reader), f"{name}/0") as part:
        before = None
        for _ in range(6):
            assert part.next_batch() == []
            awake = part.next_awake()
            assert awake is not None
            assert before is None or awake >= before
            before = awake
            part.snapshot()
        write(tansu, name, ["news"])
        items, _ = until(part, lambda items: len(texts(items)) == 1)
        assert shape(items) == "bt"


class GatedTansu(Tansu):
    """A broker that tells its clients to come through another port."""

    def __init__(self, gate_port: int) -> None:
        super().__init__()
        self._gate_port = gate_port

    def _command(self) -> Sequence[str]:
        return [part if part != self._url else f"tcp://127.0.0.1:{self._gate_port}" for part in self._both()]

    @property
    def _url(self) -> str:
        return "advertised"

    def _both(self) -> list[str]:
        given = list(super()._command())
        given[given.index("--advertised-listener-url") + 1] = self._url
        return given


@pytest.fixture(scope="module")
def gated() -> Iterator[tuple[str, Gate]]:
    """(servers, gate) of a broker behind an open gate."""
    port = free_port()
    with GatedTansu(port) as broker:
        gate = Gate(port, broker.port)
        gate.open()
        yield f"127.0.0.1:{port}", gate
        gate.shut()


def test_the_flow_waits_for_a_broker_that_went_away(gated: tuple[str, Gate], reader: str) -> None:
    """While the broker cannot be reached nothing comes and nothing fails; once it is back, the flow goes on exactly."""
    servers, gate = gated
    name = f"away-{reader}"
    create_topics(servers, {name: 1})
    write(servers, name, [str(number) for number in range(500)])
    with partition(source(servers, [name], reader=reader, batch_rows_max=100), f"{name}/0") as part:
        first, _ = until(part, lambda items: len(texts(items)) >= 100)
        assert LAG_OFFSETS.labels(name, "0")._value.get() == 500 - len(texts(first))
        gate.shut()
        try:
            later, _ = until(part, lambda items: len(texts(items)) + len(texts(first)) == 500)
            assert [shape(items) for items, _ in [next(epochs(part)) for _ in range(20)] if items] == ["t"]
        finally:
            gate.open()
        write(servers, name, ["back"])
        last, _ = until(part, lambda items: len(texts(items)) == 1)
    assert texts([*first, *later, *last]) == [*[str(number) for number in range(500)], "back"]
    assert LAG_OFFSETS.labels(name, "0")._value.get() == 0


def test_both_readers_share_one_bound() -> None:
    """queued_bytes_max is divided by the partitions, and never passes 128 MB in all."""
    for partitions in (1, 12, 100):
        properties = KafkaConfig(servers="h:1").client_properties(partitions)
        assert properties["queued.max.messages.kbytes"] * 1024 * partitions <= 128 << 20
    with pytest.raises(ConfigurationError, match="queued_bytes_max"):
        KafkaConfig.read({"servers": "h:1", "queued_bytes_max": 1 << 30}, "source.kafka")


def test_items_are_what_the_edges_carry(tansu: str, numbers: str, reader: str) -> None:
    """What leaves the source are batches and control items, nothing else."""
    with partition(source(tansu, [numbers], until_end=True, reader=reader), "numbers/0") as part:
        items = [item for items, _ in epochs(part) for item in items]
    assert {type(item) for item in items} == {ChangeBatch, Tick}
    assert isinstance(TextDecoder("t", 0).state, int)
