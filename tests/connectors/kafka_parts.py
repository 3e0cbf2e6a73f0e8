"""Parts for tests of the Kafka source: a decoder of plain text, a run by hand, and a gate between client and broker."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pyarrow as pa

from connectors.base.items import Item, Tick, Truncate
from connectors.kafka.config import KafkaConfig
from connectors.kafka.source import KafkaPartition, KafkaSource
from connectors.kafka.topics import produce
from libcore.change import ChangeBatch, Op, arrow_schema
from libcore.position import make
from libcore.schema import Column, Table, parse_type

TEXTS = Table("texts", (Column("offset", parse_type("int64")), Column("text", parse_type("bytes"))), ("offset",))
WAIT_S = 30.0


class TextDecoder:
    """Each message is a row (its offset, its value); the value `truncate` empties the table. State: messages so far."""

    def __init__(self, topic: str, partition: int, state: object | None = None) -> None:
        self.topic, self.partition = topic, partition
        self.state: Any = state or 0

    def decode(self, messages: pa.RecordBatch) -> tuple[list[Item], int]:
        """See connectors.base.source.Decoder."""
        values = messages.column("value").to_pylist()
        if values[0] == b"truncate":
            self.state += 1
            return [Truncate("texts", f"{self.topic}:{self.partition}:{messages.column('offset')[0].as_py()}")], 1
        count = values.index(b"truncate") if b"truncate" in values else len(values)
        rows = messages.slice(0, count)
        self.state += count
        offsets = rows.column("offset")
        arrays = [
            offsets,
            rows.column("value"),
            pa.array([int(Op.UPSERT)] * count, pa.int8()),
            pa.array([make(0, 0, offset) for offset in offsets.to_pylist()], pa.binary(32)),
            pa.nulls(count, pa.timestamp("us", tz="UTC")),
        ]
        return [ChangeBatch(TEXTS, pa.RecordBatch.from_arrays(arrays, schema=arrow_schema(TEXTS)))], count


def source(servers: str, topics: list[str], *, until_end: bool = False, **settings: Any) -> KafkaSource:
    """A source of texts."""
    return KafkaSource(KafkaConfig(servers=servers, **settings), topics, TextDecoder, until_end)


def write(servers: str, topic: str, values: Sequence[str], number: int = 0) -> None:
    """Produce texts into one partition."""
    produce(servers, topic, [(b"k", value.encode(), number) for value in values])


@contextlib.contextmanager
def partition(made: KafkaSource, part: str, state: Any = None) -> Iterator[KafkaPartition]:
    """One partition of the source, closed in the end; the others stay unopened."""
    assert part in made.list_parts()
    opened = made.build_part("source", part, state)
    try:
        yield opened
    finally:
        opened.close()


def epochs(part: KafkaPartition) -> Iterator[tuple[list[Item], Any]]:
    """(items, state) of epoch after epoch, each of one next_batch, until StopIteration; waits like Bytewax between."""
    while True:
        try:
            items = part.next_batch()
        except StopIteration:
            return
        yield items, part.snapshot()
        awake = part.next_awake()
        if awake is not None:
            time.sleep(max(0.0, awake.timestamp() - time.time()))


def texts(items: list[Item]) -> list[str]:
    """The texts of the rows among items."""
    batches = [item.record for item in items if isinstance(item, ChangeBatch)]
    return [text.decode() for batch in batches for text in batch.column("text").to_pylist()]


def until(part: KafkaPartition, enough: Callable[[list[Item]], bool]) -> tuple[list[Item], Any]:
    """All items and the last state once `enough` says so of the items so far; fails after WAIT_S."""
    seen: list[Item] = []
    deadline = time.monotonic() + WAIT_S
    for items, state in epochs(part):
        seen += items
        if enough(seen):
            return seen, state
        assert time.monotonic() < deadline, f"only {len(seen)} items"
    raise AssertionError(f"ended after {len(seen)} items")


def shape(items: list[Item]) -> str:
    """One letter an item: b(atch), t(ick), T(runcate)."""
    letters = {ChangeBatch: "b", Tick: "t", Truncate: "T"}
    return "".join(letters[type(item)] for item in items)


class Gate:
    """A TCP port that passes bytes on to another one while it is open, and refuses and cuts while it is shut."""

    def __init__(self, port: int, target_port: int) -> None:
        self.port, self._target_port = port, target_port
        self._listener: socket.socket | None = None
        self._sockets: list[socket.socket] = []

    def open(self) -> None:
        """Listen and pass on."""
        listener = socket.create_server(("127.0.0.1", self.port), reuse_port=True)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Cut what is there and refuse what comes."""
        listener, self._listener = self._listener, None
        for each in [*self._sockets, *([listener] if listener is not None else [])]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            self._sockets += [client, server]
            for left, right in ((client, server), (server, client)):
                threading.Thread(target=_pass_on, args=(left, right), daemon=True).start()


def _pass_on(left: socket.socket, right: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := left.recv(65536):
            right.sendall(data)
    for each in (left, right):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
