"""The document step: transactions leave whole and in order, whatever the order, the repeats and the restarts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.base.items import Item, Tick
from connectors.base.source import RAW_SCHEMA
from connectors.formats.binding import TopicBinding
from connectors.formats.debezium import DebeziumDecoder
from connectors.formats.declared import declared_column
from connectors.formats.transactions import TransactionDecoder
from flows.document_spec import DocumentSpec
from flows.operators.document import Documents, Rules
from libcore.change import OP, POSITION, TX, ChangeBatch, Op
from libcore.dead_letter import DEAD_LETTERS
from libcore.errors import CapacityError, ConfigurationError, FatalError
from tests.flows.bank import COLUMNS, KEYS, Bank, Message, interleaved
from tests.libcore.strategies import EXAMPLES

SEEDS = st.integers(0, 2**32)
TOPICS = [Bank(0).topic(table) for table in KEYS]
SPEC = DocumentSpec(transaction_topic="bank.transaction")


class Clock:
    """A clock that stands until it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, stage: Documents, seconds: float) -> list[Item]:
        """Let time pass, with a Tick a second as an idle source brings them."""
        items: list[Item] = []
        for _ in range(round(seconds)):
            self.now_s += 1.0
            items += stage.on_items([Tick()])
        return items


class Source:
    """Decoders of all partitions: messages in, items out."""

    def __init__(self) -> None:
        self._decoders: dict[tuple[str, int], Any] = {}
        self._offset = 0

    def items(self, messages: list[Message]) -> list[Item]:
        """The items of messages, each partition's in its order."""
        parts: dict[tuple[str, int], list[Message]] = {}
        for message in messages:
            parts.setdefault((message[0], message[3]), []).append(message)
        items: list[Item] = []
        for (topic, number), part in parts.items():
            self._offset += len(part)
            columns = [[m[1] for m in part], [m[2] for m in part], [self._offset] * len(part), [0] * len(part)]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, RAW_SCHEMA, strict=True)]
            found, consumed = self._decoder(topic, number).decode(pa.RecordBatch.from_arrays(arrays, schema=RAW_SCHEMA))
            assert consumed == len(part)
            items += found
        return items

    def _decoder(self, topic: str, number: int) -> Any:
        if (topic, number) not in self._decoders:
            if topic.endswith(".transaction"):
                made: Any = TransactionDecoder(topic, number)
            else:
                table = topic.rpartition(".")[2]
                columns = tuple(declared_column(name, kind) for name, kind in COLUMNS[table].items())
                binding = TopicBinding(topic, columns, tuple(KEYS[table]), on_truncate="ignore", transactions=True)
                made = DebeziumDecoder(topic, number, binding)
            self._decoders[topic, number] = made
        return self._decoders[topic, number]


def new_stage(clock: Clock | None = None, **settings: Any) -> Documents:
    """A stage of the bank's tables."""
    table_of = SPEC.namer(TOPICS)
    return Documents(Rules("bank", table_of, **settings), clock or Clock())


def restarted(stage: Documents, clock: Clock | None = None, **settings: Any) -> Documents:
    """A new stage with what the old one kept at the end of its last epoch."""
    stage.epoch_ends()
    made = new_stage(clock, **settings)
    for name, store in stage.stores.items():
        made.load(name, store.whole())
    return made


class Target:
    """Applies what leaves the stage, call by call, and checks the books after each."""

    def __init__(self, bank: Bank) -> None:
        self.tables: dict[str, dict[Any, Any]] = {table: {} for table in KEYS}
        self.letters: list[dict[str, Any]] = []
        self._states: list[dict[str, Any]] = []

    def take(self, items: list[Item]) -> None:
        """One epoch's items, each key's change with the greatest position, as the sink does."""
        last: dict[tuple[str, Any], tuple[bytes, int, dict[str, Any]]] = {}
        for item in items:
            if not isinstance(item, ChangeBatch):
                continue
            if item.table == DEAD_LETTERS:
                self.letters += item.record.to_pylist()
                continue
            assert TX not in item.record.schema.names
            table = item.table.name.rpartition(".")[2]
            for row in item.record.to_pylist():
                key = (table, tuple(row[name] for name in KEYS[table]))
                if key not in last or row[POSITION] >= last[key][0]:
                    last[key] = (row[POSITION], row[OP], {name: row[name] for name in COLUMNS[table]})
        for (table, key), (_, op, row) in last.items():
            if op == Op.DELETE:
                self.tables[table].pop(key, None)
            else:
                self.tables[table][key] = row

    def books(self) -> dict[str, list[tuple[Any, ...]]]:
        """As Bank.books."""
        books = {}
        for table, rows in self.tables.items():
            books[table] = sorted(
                tuple(int(row[n] * 100) if n in ("balance", "amount") else row[n] for n in COLUMNS[table])
                for row in rows.values()
            )
        return books


def history(seed: int, count: int) -> tuple[Bank, list[list[Message]], list[dict[str, Any]]]:
    """A bank, the messages of its transactions, and its books before the first and behind each."""
    bank = Bank(seed % 50, partitions=1 + seed % 3, accounts=4)
    states, transactions = [bank.books()], []
    snapshot = bank.snapshot()
    for _ in range(count):
        transactions.append(bank.transaction())
        states.append(bank.books())
    return bank, [snapshot, *transactions], states


def portions(messages: Iterator[Message], random: Random) -> Iterator[list[Message]]:
    """The messages in groups of random size."""
    left = list(messages)
    while left:
        size = random.choice((1, 2, 5, 30))
        yield left[:size]
        left = left[size:]


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(SEEDS, st.integers(1, 12))
def test_every_state_is_one_that_the_source_had(seed: int, count: int) -> None:
    """Behind each call the target is at some commit of the source, never goes back, and ends at the last one; also with
    restarts in between."""
    random = Random(seed)
    bank, (snapshot, *transactions), states = history(seed, count)
    source, stage, target = Source(), new_stage(), Target(bank)
    target.take(stage.on_items(source.items(snapshot)))
    at = states.index(target.books())
    for portion in portions(interleaved([m for t in transactions for m in t], seed, lead=60), random):
        if random.random() < 0.2:
            stage = restarted(stage)
        target.take(stage.on_items([*source.items(portion), Tick()]))
        if random.random() < 0.5:
            stage.epoch_ends()
        at += states[at:].index(target.books())
    assert at == count or target.books() == states[-1]
    assert stage.pending.rows == stage.pending.bytes == len(stage.pending.transactions) == len(stage.ends) == 0


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(SEEDS, st.integers(1, 8))
def test_what_came_again_is_dropped(seed: int, count: int) -> None:
    """A connector that goes back and sends transactions again, from their beginning or from within, changes nothing:
    the target never goes back to a state it has left."""
    random = Random(seed)
    bank, (snapshot, *transactions), states = history(seed, count)
    messages: list[Message] = []
    at = 0
    while at < len(transactions):
        messages += transactions[at]
        if random.random() < 0.3:
            first = random.randint(max(0, at - 2), at)
            again = [message for transaction in transactions[first : at + 1] for message in transaction]
            cut = random.randint(0, len(transactions[first]) - 1)
            messages += again[cut:]
        at += 1
    source, stage, target = Source(), new_stage(), Target(bank)
    target.take(stage.on_items(source.items(snapshot)))
    at = states.index(target.books())
    for portion in portions(interleaved(messages, seed), random):
        if random.random() < 0.1:
            stage = restarted(stage)
        target.take(stage.on_items(source.items(portion)))
        at += states[at:].index(target.books())
    assert target.books() == states[-1]
    assert stage.pending.rows == len(stage.pending.transactions) == len(stage.ends) == 0


def test_a_transaction_of_two_tables_waits_for_its_last_row() -> None:
    """An END and all rows but one let nothing through; the last row lets all of it through at once."""
    bank, (_, first), _states = history(3, 1)
    source, stage, target = Source(), new_stage(), Target(bank)
    changes = [message for message in first[1:-1] if message[2] is not None]
    assert stage.on_items(source.items([first[0], first[-1], *changes[:-1]])) == []
    target.take(stage.on_items(source.items(changes[-1:])))
    assert {table for table, rows in target.tables.items() if rows} == {"accounts", "transfers", "ledger"}


def without_last_change(transaction: list[Message]) -> tuple[list[Message], Message]:
    """A transaction without its last row, and that row."""
    last = max(index for index, message in enumerate(transaction[:-1]) if message[2] is not None)
    return transaction[:last] + transaction[last + 1 :], transaction[last]


def test_an_incomplete_transaction_stops_the_flow() -> None:
    """After timeout_s of waiting, not before, an error names the transaction, what is missing, and the ways out."""
    _, (snapshot, first, second), _ = history(1, 2)
    source, clock = Source(), Clock()
    stage = new_stage(clock)
    stage.on_items(source.items(snapshot))
    torn, _ = without_last_change(first)
    assert stage.on_items(source.items([*torn, *second])) == []
    assert clock.wait(stage, 60) == [Tick()] * 60
    with pytest.raises(
        FatalError, match=rf"transaction {json.loads(first[-1][1])['id']} is not complete: found .* skip"
    ):
        clock.wait(stage, 2)


def test_time_in_which_the_flow_stood_still_does_not_count() -> None:
    """An hour without a call, because the target was down, is no hour of waiting for a row."""
    _, (_, first), _ = history(1, 1)
    source, clock = Source(), Clock()
    stage = new_stage(clock)
    torn, last = without_last_change(first)
    stage.on_items(source.items(torn))
    clock.now_s += 3600
    assert len(stage.on_items(source.items([last]))) > 0


def test_a_snapshot_in_front_of_the_missing_row_resets_the_time() -> None:
    """While the snapshot of the table that lacks a row still comes, the row is behind it, and nothing times out."""
    _, (snapshot, first), _ = history(1, 1)
    source, clock = Source(), Clock()
    stage = new_stage(clock)
    stage.on_items(source.items([first[0], first[-1]]))
    for _ in range(4):
        clock.wait(stage, 50)
        stage.on_items(source.items(snapshot))
    stage.on_items(source.items(first[1:-1]))
    assert stage.pending.rows == 0


@pytest.mark.parametrize("settings", [{"on_timeout": "skip"}, {"skip": True}], ids=["timeout", "command"])
def test_a_skipped_transaction_becomes_dead_letters(settings: dict[str, Any]) -> None:
    """Left out, a transaction is left out whole: its rows are dead letters, also those that come later; the next one
    goes on."""
    bank, (snapshot, first, second), _ = history(1, 2)
    if settings.get("skip"):
        settings = {"skip": frozenset([json.loads(first[-1][1])["id"]])}
    source, clock, target = Source(), Clock(), Target(bank)
    stage = new_stage(clock, **settings)
    target.take(stage.on_items(source.items(snapshot)))
    torn, last = without_last_change(first)
    target.take(stage.on_items(source.items(torn)))
    target.take(clock.wait(stage, 62))
    changes = sum(message[2] is not None for message in torn[1:-1])
    assert [letter["step"] for letter in target.letters] == ["document"] * changes
    stage = restarted(stage, clock)
    target.take(stage.on_items(source.items([last, *second])))
    assert len(target.letters) == changes + 1
    assert stage.pending.rows == len(stage.ends) == 0


def test_rows_without_an_end_stop_the_flow() -> None:
    """Rows whose END never comes are told when END marks of commits a minute younger have come."""
    _, (_, first, second), _ = history(1, 2)
    source, clock = Source(), Clock()
    stage = new_stage(clock)
    stage.on_items(source.items(first[:-1]))
    clock.wait(stage, 59)
    later = second[-1][2].replace(b'"ts_ms": 179523', b'"ts_ms": 179533')  # type: ignore[union-attr]
    stage.on_items(source.items([*second[:-1], (*second[-1][:2], later, 0)]))
    with pytest.raises(FatalError, match="no END in 60 s"):
        clock.wait(stage, 2)


@pytest.mark.parametrize("on_bad_row", ["stop", "apply"])
def test_a_row_that_cannot_be_read_counts_as_arrived(on_bad_row: str) -> None:
    """A change that became a dead letter stops its transaction's release, or the others go without it; a restart
    forgets neither."""
    bank, (snapshot, first), states = history(1, 1)
    source, target = Source(), Target(bank)
    rules: dict[str, Any] = {"on_bad_row": on_bad_row}
    stage = new_stage(**rules)
    target.take(stage.on_items(source.items(snapshot)))
    bad = [
        (*m[:2], m[2].replace(b'"amount": "', b'"amount": "x'), m[3]) if m[2] and b'transfers"' in m[2] else m
        for m in first
    ]
    assert bad != first
    target.take(stage.on_items(source.items(bad[:-1])))
    stage = restarted(stage, **rules)
    if on_bad_row == "stop":
        with pytest.raises(FatalError, match=r"cannot be read .* on_bad_row"):
            stage.on_items(source.items(bad[-1:]))
        return
    target.take(stage.on_items(source.items(bad[-1:])))
    found = target.books()
    assert found["accounts"] == states[-1]["accounts"] and len(found["transfers"]) < len(states[-1]["transfers"])
    assert target.letters and stage.pending.rows == 0


def test_an_ignored_truncate_counts_as_arrived() -> None:
    """TRUNCATE is a change that the END counts, and brings no row."""
    source, stage = Source(), new_stage()
    topic, name = TOPICS[0], '"transaction":{"id":"5:6","total_order":1,"data_collection_order":1}'
    value = f'{{"source":{{"connector":"postgresql"}},"op":"t","ts_ms":1,{name}}}'.encode()
    mark = {"status": "END", "id": "5:9", "event_count": 1, "ts_ms": 1}
    mark["data_collections"] = [{"data_collection": "public.accounts", "event_count": 1}]
    items = source.items([(topic, b"", value, 0), ("bank.transaction", b"", json.dumps(mark).encode(), 0)])
    assert stage.on_items(items) == [] and not stage.ends and not stage.pending.transactions


def test_a_source_that_went_back_is_refused() -> None:
    """Commits below the last one that are not known repeats stop the flow; a raised generation goes on from there."""
    _, (_, first, second), _ = history(1, 2)
    source = Source()
    stage = new_stage()
    stage.on_items(source.items(second))
    with pytest.raises(FatalError, match="generation = 1"):
        stage.on_items(source.items(first))
    stage = restarted(stage, generation=1)
    stage.on_items(source.items(first))
    assert stage.pending.rows == 0


def test_too_many_waiting_rows_are_refused() -> None:
    """Above pending_bytes the error names what is waited for and the setting."""
    _, (_, *transactions), _ = history(1, 20)
    source, stage = Source(), new_stage(pending_bytes=5_000)
    with pytest.raises(CapacityError, match="pending_bytes"):
        stage.on_items(source.items([m for t in transactions for m in t[:-1]]))


def test_wrong_names_are_told() -> None:
    """Rows of a table that the END does not count for it stop the flow, with the setting that maps names."""
    _, (_, first), _ = history(1, 1)
    source = Source()
    stage = Documents(
        Rules("bank", lambda name: None if name == "public.ledger" else SPEC.namer(TOPICS)(name)), Clock()
    )
    with pytest.raises(FatalError, match=r"\[document.collections\]"):
        stage.on_items(source.items(first))


def test_tables_are_found_by_the_names_in_marks() -> None:
    """The prefix and the name make the topic; the database in front may be missing; what a topic cannot hold is _."""
    topics = ["erp.public.items", "erp.public.Odd_Name-_", "erp.SALES.ORDERS", "other"]
    spec = DocumentSpec(transaction_topic="erp.transaction", collections={"public.special": "other"})
    namer = spec.namer(topics)
    found = {name: namer(name) for name in ("public.items", "public.Odd Name-Ü", "ORCL.SALES.ORDERS", "public.special")}
    assert list(found.values()) == topics and namer("public.unread") is None


@pytest.mark.parametrize(
    ("existing", "tables", "text"),
    [
        ({}, {}, "found none of that name"),
        ({"erp.transaction": 2}, {}, "expected one partition, found 2"),
        ({"erp.transaction": 1}, {"erp.transaction": "stop"}, "is a table of the pipeline"),
        ({"erp.transaction": 1}, {"erp.a.b": "apply"}, "on_truncate"),
    ],
)
def test_what_cannot_keep_transactions_whole_is_refused(
    existing: dict[str, int], tables: dict[str, str], text: str
) -> None:
    """A transaction topic that is missing or has more than one partition, and truncates that are applied."""
    with pytest.raises(ConfigurationError, match=text):
        DocumentSpec(transaction_topic="erp.transaction").check(existing, tables)
