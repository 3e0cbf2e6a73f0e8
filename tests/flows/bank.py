"""A bank whose books always agree, as a PostgreSQL connector of Debezium would tell of it, message by message.

Accounts, transfers between them, and a ledger with two entries a transfer, written in single transactions. At every
commit the balances add up to the same sum, each balance is the sum of its account's entries, and each transfer has two
entries that cancel out. The recorded form: tests/golden/debezium.
"""

from __future__ import annotations

import json
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg

SCHEMA = "public"
KEYS = {"accounts": ["id"], "transfers": ["id"], "ledger": ["transfer_id", "account_id"]}
COLUMNS = {
    "accounts": {"id": "int64", "owner": "string", "balance": "decimal(18,2)"},
    "transfers": {"id": "int64", "amount": "decimal(18,2)", "note": "string"},
    "ledger": {"transfer_id": "int64", "account_id": "int64", "amount": "decimal(18,2)"},
}
Row = dict[str, Any]
Message = tuple[str, bytes, bytes | None, int]
"""(topic, key, value, partition)"""


@dataclass
class Bank:
    """Makes transactions and their messages.

    Args:
        seed: decides everything. partitions: of each table's topic.
        accounts: there at the beginning, with 1000.00 each. prefix: of the topics.
    """

    seed: int
    partitions: int = 2
    accounts: int = 12
    prefix: str = "bank"
    tables: dict[str, dict[tuple[int, ...], Row]] = field(default_factory=lambda: {name: {} for name in KEYS})

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self._lsn, self._xid, self._transfer, self._commit = 1_000, 700, 0, 0
        self._next_account = self.accounts + 1
        for number in range(1, self.accounts + 1):
            self.tables["accounts"][number,] = {"id": number, "owner": f"owner {number}", "balance": 100_000}
            self._transfer -= 1  # opening entries: transfers with negative numbers are of the bank itself
            self.tables["ledger"][self._transfer, number] = {
                "transfer_id": self._transfer, "account_id": number, "amount": 100_000,
            }  # fmt: skip
        self._transfer = 0

    def topic(self, table: str) -> str:
        """The topic of a table."""
        return f"{self.prefix}.{SCHEMA}.{table}"

    @property
    def topics(self) -> dict[str, int]:
        """Partition count by topic."""
        return {**{self.topic(table): self.partitions for table in KEYS}, f"{self.prefix}.transaction": 1}

    @property
    def total(self) -> int:
        """The sum of all balances, in hundredths."""
        return self.accounts * 100_000

    def snapshot(self) -> list[Message]:
        """What the connector reads before the stream: rows outside of a transaction."""
        return [
            self._message(table, "r", None, row, None, 0)
            for table, rows in self.tables.items()
            for row in rows.values()
        ]

    def transaction(self) -> list[Message]:
        """One transaction's messages, in the order in which the connector sends them."""
        self._xid += 1
        begin = self._lsn = self._lsn + 40
        self._events: list[tuple[str, Message]] = []
        self._orders: dict[str, int] = {}
        for _ in range(self._random.choice((1, 1, 1, 2, 5))):
            self._transfer_money()
        if self._random.random() < 0.1:
            self._open_or_close()
        if self._random.random() < 0.1:
            self._amend()
        self._lsn += 40
        self._commit = self._lsn
        counts = [{"data_collection": f"{SCHEMA}.{table}", "event_count": n} for table, n in self._orders.items()]
        total = sum(self._orders.values())
        marks = [self._mark("BEGIN", begin, None, None), self._mark("END", self._lsn, total, counts)]
        return [marks[0], *(message for _, message in self._events), marks[1]]

    def _transfer_money(self) -> None:
        accounts = self.tables["accounts"]
        giver, taker = self._random.sample(sorted(accounts), 2)
        amount = self._random.randint(1, max(1, accounts[giver]["balance"] // 3))
        self._transfer += 1
        self._change("transfers", {"id": self._transfer, "amount": amount, "note": "ä" * self._random.randint(0, 40)})
        for key, sign in ((giver, -1), (taker, 1)):
            self._change("accounts", {**accounts[key], "balance": accounts[key]["balance"] + sign * amount})
            self._change("ledger", {"transfer_id": self._transfer, "account_id": key[0], "amount": sign * amount})

    def _open_or_close(self) -> None:
        """A new account without money, or the end of one whose balance and entries are nothing."""
        empty = [key for key, row in self.tables["accounts"].items() if row["balance"] == 0]
        entries = {key[1] for key in self.tables["ledger"]}
        if idle := [key for key in empty if key[0] not in entries]:
            self._delete("accounts", idle[0])
            return
        number, self._next_account = self._next_account, self._next_account + 1
        self._change("accounts", {"id": number, "owner": f"owner {number}", "balance": 0})

    def _amend(self) -> None:
        """A transfer is undone as if it had never been, all in one transaction."""
        done = sorted(self.tables["transfers"])
        key = self._random.choice(done)
        for entry in [found for found in self.tables["ledger"] if found[0] == key[0]]:
            account = self.tables["accounts"][entry[1],]
            amount = self.tables["ledger"][entry]["amount"]
            self._change("accounts", {**account, "balance": account["balance"] - amount})
            self._delete("ledger", entry)
        self._delete("transfers", key)

    def _change(self, table: str, row: Row) -> None:
        key = tuple(row[name] for name in KEYS[table])
        before = self.tables[table].get(key)
        self.tables[table][key] = row
        self._event(table, "c" if before is None else "u", before, row)

    def _delete(self, table: str, key: tuple[int, ...]) -> None:
        before = self.tables[table].pop(key)
        self._event(table, "d", before, None)
        message = self._events[-1][1]
        self._events.append((table, (message[0], message[1], None, message[3])))  # the tombstone

    def _event(self, table: str, op: str, before: Row | None, after: Row | None) -> None:
        self._lsn += 8
        self._orders[table] = self._orders.get(table, 0) + 1
        transaction = {
            "id": f"{self._xid}:{self._lsn}",
            "total_order": sum(self._orders.values()),
            "data_collection_order": self._orders[table],
        }
        self._events.append((table, self._message(table, op, before, after, transaction, self._lsn)))

    def _message(
        self, table: str, op: str, before: Row | None, after: Row | None, transaction: Row | None, lsn: int
    ) -> Message:
        row = after or before
        assert row is not None
        key = json.dumps({name: row[name] for name in KEYS[table]}).encode()
        source = {
            "version": "3.6.0.Final", "connector": "postgresql", "name": self.prefix, "ts_ms": self._time_ms(),
            "snapshot": "false" if transaction else "true", "db": "src",
            "sequence": json.dumps([str(self._commit), str(lsn)]), "ts_us": 1000 * self._time_ms(),
            "schema": SCHEMA, "table": table, "txId": self._xid, "lsn": lsn, "xmin": None,
        }  # fmt: skip
        value = {
            "before": _texts(before), "after": _texts(after), "source": source, "transaction": transaction, "op": op,
            "ts_ms": self._time_ms(),
        }  # fmt: skip
        return self.topic(table), key, json.dumps(value, ensure_ascii=False).encode(), zlib.crc32(key) % self.partitions

    def _mark(self, status: str, lsn: int, count: int | None, parts: list[Row] | None) -> Message:
        name = f"{self._xid}:{lsn}"
        value = {"status": status, "id": name, "event_count": count, "data_collections": parts}
        text = json.dumps({**value, "ts_ms": self._time_ms()}).encode()
        return f"{self.prefix}.transaction", json.dumps({"id": name}).encode(), text, 0

    def _time_ms(self) -> int:
        return 1_795_233_611_000 + self._xid

    def books(self) -> dict[str, list[tuple[Any, ...]]]:
        """The rows as `read_books` gives them."""
        return {
            table: sorted(tuple(row[name] for name in COLUMNS[table]) for row in rows.values())
            for table, rows in self.tables.items()
        }


def _texts(row: Row | None) -> Row | None:
    """Amounts as texts, as decimal.handling.mode = string writes them."""
    if row is None:
        return None
    return {name: f"{value / 100:.2f}" if name in ("balance", "amount") else value for name, value in row.items()}


def interleaved(messages: list[Message], seed: int, lead: int = 40) -> Iterator[Message]:
    """The messages in another order: each partition's stays, but they run up to `lead` messages ahead and behind."""
    random = Random(seed)
    queues: dict[tuple[str, int], deque[Message]] = {}
    at = 0
    while at < len(messages) or any(queues.values()):
        while at < len(messages) and sum(map(len, queues.values())) < lead:
            message = messages[at]
            queues.setdefault((message[0], message[3]), deque()).append(message)
            at += 1
        ready = [queue for queue in queues.values() if queue]
        queue = random.choice(ready)
        for _ in range(min(len(queue), random.choice((1, 1, 2, 6)))):
            yield queue.popleft()


def pipeline_text(bank: Bank, servers: str, *, document: str = "", source: str = "") -> str:
    """The pipeline file; `document` and `source` add settings to those sections."""
    text = (
        f'name = "bank"\n[source.kafka]\nservers = "{servers}"\n{source}\n[document]\n'
        f'transaction_topic = "{bank.prefix}.transaction"\n{document}\n[sink.postgres]\ndsn = "env:TARGET_DSN"\n'
    )
    for table, columns in COLUMNS.items():
        text += f'[tables.{table}]\ntopic = "{bank.topic(table)}"\nkey = {json.dumps(KEYS[table])}\n'
        text += f"[tables.{table}.columns]\n"
        text += "".join(f'{name} = "{kind}"\n' for name, kind in columns.items())
    return text


CHECKS = {
    "money came or went": "SELECT sum(balance) FROM accounts HAVING sum(balance) <> %(total)s",
    "a balance is not the sum of its entries": "SELECT id, balance, found FROM accounts FULL JOIN (SELECT account_id, "
    "sum(amount) AS found FROM ledger GROUP BY account_id) l ON account_id = id "
    "WHERE coalesce(balance, 0) <> coalesce(found, 0)",
    "a transfer without its two entries": "SELECT id, entries FROM (SELECT * FROM transfers) t FULL JOIN (SELECT "
    "transfer_id, count(*) AS entries, sum(amount) AS rest FROM ledger WHERE transfer_id > 0 GROUP BY transfer_id) l "
    "ON transfer_id = id WHERE entries IS DISTINCT FROM 2 OR rest <> 0 OR id IS NULL",
}


def faults(connection: psycopg.Connection[Any], total: int) -> list[str]:
    """What is wrong with the books at this moment, each as one reader's snapshot sees it; [] where all is well."""
    found = []
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        for text, query in CHECKS.items():
            rows = connection.execute(query, {"total": total / 100}).fetchmany(3)
            if rows:
                found.append(f"{text}: {rows}")
    return found


def read_books(connection: psycopg.Connection[Any]) -> dict[str, list[tuple[Any, ...]]]:
    """The target's rows, amounts in hundredths."""
    books = {}
    for table, columns in COLUMNS.items():
        names = [f"({name} * 100)::bigint" if name in ("balance", "amount") else name for name in columns]
        books[table] = sorted(connection.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall())
    return books
