"""The workload's events: an ERP's customers, orders and items, deterministic to the byte.

As Debezium 3 writes them with schemas off and decimals as strings: about 630 B an event, creates, 5 % updates, 3 %
deletes. With `hard` orders also change their customer (NULL and dangling ones too) and are deleted and made again,
customers are deleted and come back, and items move to another order (the delete of the old key, then the create of the
new one).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

TABLES = ("customers", "orders", "items")
ITEMS_MIN = 40  # below it the ten first orders would never come
VERSION = 1  # raised when the bytes change, so that cached files are not taken for the new ones

_COUNTRIES = ("TR", "DE", "FR", "GB", "US", "NL", "IT", "ES")
_STATUSES = ("OPEN", "RELEASED", "SHIPPED", "CLOSED")
_CURRENCIES = ("TRY", "EUR", "USD")
# as JSON string contents: the quotes and the backslash are escaped already
_NAMES = (
    "Ayşe Yılmaz",
    "Müller GmbH",
    'Société \\"Lumière\\"',
    "O'Neil & Sons",
    "Öztürk Lojistik A.Ş.",
    "Acme \\\\ Corp",
    "Smith Ltd",
    "日本商事",
)
_BASE_US = 1_760_000_000_000_000

Event = tuple[str, str, str]
"""(table, key, value): JSON texts without a newline or a tab."""


class IndexedList:
    """A list with fast removal by index, also when it holds millions of entries.

    Blocks of bounded length under a Fenwick tree of their lengths: list.pop(i) alone moves megabytes for every delete,
    which was half of the generator's time at 1,000,000 events.
    """

    BLOCK = 2048

    def __init__(self, capacity: int) -> None:
        count = capacity // self.BLOCK + 1
        self._blocks: list[list[Any]] = [[] for _ in range(count)]
        self._tree = [0] * (count + 1)
        self._top = 1 << (count.bit_length() - 1)
        self._appended = self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, entry: Any) -> None:
        """Add at the end. At most `capacity` entries in the list's whole life."""
        block = self._appended // self.BLOCK
        self._blocks[block].append(entry)
        self._add(block, 1)
        self._appended += 1
        self._length += 1

    def locate(self, index: int) -> tuple[list[Any], int]:
        """The block that holds entry `index`, and its place in that block."""
        return self._find(index)[1:]

    def pop(self, index: int) -> Any:
        """Remove and return entry `index`."""
        block, entries, place = self._find(index)
        self._add(block, -1)
        self._length -= 1
        return entries.pop(place)

    def _add(self, block: int, amount: int) -> None:
        tree, node = self._tree, block + 1
        while node < len(tree):
            tree[node] += amount
            node += node & -node

    def _find(self, index: int) -> tuple[int, list[Any], int]:
        assert 0 <= index < self._length, (index, self._length)
        tree, node, step = self._tree, 0, self._top
        while step:
            ahead = node + step
            if ahead < len(tree) and tree[ahead] <= index:
                node = ahead
                index -= tree[ahead]
            step >>= 1
        return node, self._blocks[node], index


class Emitter:
    """Draws numbers and makes events of them, whose log positions rise."""

    def __init__(self) -> None:
        source = random.Random(7)
        self.draw, self._bits = source.random, source.getrandbits
        self.lsn, self.tx = 30_000_000, 700

    def below(self, limit: int) -> int:
        """A number in [0, limit): random.randrange without its argument checks, and the same draws."""
        width = limit.bit_length()
        number = self._bits(width)
        while number >= limit:
            number = self._bits(width)
        return number

    def envelope(self, table: str, op: str, before: str, after: str, ts_us: int) -> str:
        """The change event as Debezium's PostgreSQL connector writes it."""
        self.lsn = lsn = self.lsn + 40 + self.below(360)
        self.tx += 1
        ts_ms, seen_us = ts_us // 1000, ts_us + 3127
        return (
            f'{{"before":{before},"after":{after},"source":{{"version":"3.2.0.Final","connector":"postgresql",'
            f'"name":"erp","ts_ms":{ts_ms},"snapshot":"false","db":"erp","sequence":"[\\"{lsn - 56}\\",\\"{lsn}\\"]",'
            f'"ts_us":{ts_us},"ts_ns":{ts_us}000,"schema":"public","table":"{table}","txId":{self.tx},"lsn":{lsn},'
            f'"xmin":null}},"transaction":null,"op":"{op}","ts_ms":{ts_ms + 3},"ts_us":{seen_us},"ts_ns":{seen_us}000}}'
        )

    def event(self, table: str, op: str, key: str, before: str, after: str, ts_us: int) -> Event:
        """One event with its key."""
        return table, key, self.envelope(table, op, before, after, ts_us)


class _Workload(Emitter):
    """One run of the generator; every random number is drawn in one fixed order."""

    def __init__(self, items: int, hard: bool) -> None:
        if items < ITEMS_MIN:
            raise ValueError(f"items: expected at least {ITEMS_MIN}, found {items}")
        super().__init__()
        self.items, self.hard = items, hard
        self.order_count, self.customer_count = items // 4, max(10, items // 100)
        self.now_us = _BASE_US + 10**6
        self.customers: list[tuple[str, str] | None] = [None]  # (the row up to the country, credit limit and time)
        self.orders: list[tuple[str, str, str] | None] = [None]  # (customer_id, status, the rest of the row)
        self.alive = IndexedList(2 * items + 2)  # (order_id, line_no, `,"sku":..`, quantity, `,"unit_price":..`)
        self.emitted = 0

    # -- customers ---------------------------------------------------------------------------------------------------

    def credit(self, ts_us: int) -> str:
        """The end of a customer's row: what its updates change."""
        whole, cents = 1000 + self.below(10**7 - 1000), self.below(100)
        return f',"credit_limit":"{whole}.{cents:02d}","updated_at":{ts_us}}}'

    def first_customers(self) -> Iterator[Event]:
        """The master data that is there before the first order."""
        for number in range(1, self.customer_count + 1):
            head = f'{{"id":{number},"name":"{_NAMES[number % 8]} {number}","country":"{_COUNTRIES[self.below(8)]}"'
            tail = self.credit(_BASE_US + number)
            self.customers.append((head, tail))
            yield self.event("customers", "c", f'{{"id":{number}}}', "null", head + tail, _BASE_US + number)

    def change_customer(self) -> Event:
        """A new credit limit; in hard mode also a delete and a return."""
        number = 1 + self.below(self.customer_count)
        key, row = f'{{"id":{number}}}', self.customers[number]
        before = "null" if row is None else row[0] + row[1]
        if self.hard and row is not None and self.draw() < 0.2:
            self.customers[number] = None
            return self.event("customers", "d", key, before, "null", self.now_us)
        head = f'{{"id":{number},"name":"back {number}","country":"TR"' if row is None else row[0]
        tail = self.credit(self.now_us)
        self.customers[number] = (head, tail)
        return self.event("customers", "c" if row is None else "u", key, before, head + tail, self.now_us)

    # -- orders ------------------------------------------------------------------------------------------------------

    def order_event(self, op: str, number: int, before: tuple[str, str, str] | None) -> Event:
        """The event that leads from `before` to the order's row as it is kept now."""
        texts = [
            "null" if row is None else f'{{"id":{number},"customer_id":{row[0]},"status":"{row[1]}"{row[2]}'
            for row in (before, self.orders[number])
        ]
        return self.event("orders", op, f'{{"id":{number}}}', texts[0], texts[1], self.now_us)

    def new_order(self) -> Event:
        """The next order of some customer."""
        number = len(self.orders)
        customer = str(1 + self.below(self.customer_count))
        due_on = 20300 + self.below(60)
        rest = f',"currency":"{_CURRENCIES[number % 3]}","ordered_at":{self.now_us},"due_on":{due_on}}}'
        self.orders.append((customer, "OPEN", rest))
        return self.order_event("c", number, None)

    def change_order(self) -> Event:
        """A new status; in hard mode also another customer, a delete, a return."""
        number = 1 + self.below(len(self.orders) - 1)
        before = self.orders[number]
        chance = self.draw() if self.hard else 1.0
        if before is None:
            customer = str(1 + self.below(self.customer_count))
            rest = f',"currency":"EUR","ordered_at":{self.now_us},"due_on":20300}}'
            self.orders[number] = (customer, "OPEN", rest)
            return self.order_event("c", number, None)
        if chance < 0.1:
            self.orders[number] = None
            return self.order_event("d", number, before)
        customer, status, rest = before[0], _STATUSES[self.below(4)], before[2]
        if chance < 0.15:
            customer = "null"
        elif chance < 0.2:
            customer = str(self.customer_count + 7)
        elif chance < 0.5:
            customer = str(1 + self.below(self.customer_count))
        self.orders[number] = (customer, status, rest)
        return self.order_event("u", number, before)

    # -- items -------------------------------------------------------------------------------------------------------

    def item_event(self, op: str, before: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> Event:
        """The event that leads from one row to the other."""
        texts = [
            "null" if row is None else f'{{"order_id":{row[0]},"line_no":{row[1]}{row[2]},"quantity":{row[3]}{row[4]}'
            for row in (before, after)
        ]
        row = after or before
        assert row is not None
        self.emitted += 1
        return self.event("items", op, f'{{"order_id":{row[0]},"line_no":{row[1]}}}', texts[0], texts[1], self.now_us)

    def delete_item(self) -> Event:
        """One line of some order goes."""
        return self.item_event("d", self.alive.pop(self.below(len(self.alive))), None)

    def change_item(self) -> list[Event]:
        """Another quantity; in hard mode also another order: delete and create."""
        entries, place = self.alive.locate(self.below(len(self.alive)))
        before = entries[place]
        after = (before[0], before[1], before[2], 1 + self.below(49), before[4])
        if self.hard and self.draw() < 0.3:
            after = (1 + self.below(len(self.orders) - 1), *after[1:])
            entries[place] = after
            return [self.item_event("d", before, None), self.item_event("c", None, after)]
        entries[place] = after
        return [self.item_event("u", before, after)]

    def new_item(self) -> Event:
        """A line of one of the newest 500 orders."""
        last = len(self.orders) - 1
        first = max(1, last - 500)
        order = first + self.below(last + 1 - first)
        sku, quantity = self.below(20000), 1 + self.below(49)
        whole, fraction, discount = 1 + self.below(4999), self.below(10000), self.below(40)
        note = "null" if self.draw() < 0.7 else '"partial – Teslim edilmedi"'
        row = (
            order,
            self.emitted + 1,
            f',"sku":"MAT-{sku:06d}"',
            quantity,
            f',"unit_price":"{whole}.{fraction:04d}","discount":"0.{discount:02d}","note":{note}'
            f',"created_at":{self.now_us}}}',
        )
        self.alive.append(row)
        return self.item_event("c", None, row)

    def events(self) -> Iterator[Event]:
        """All events, in the order in which the database logged them."""
        yield from self.first_customers()
        while self.emitted < self.items:
            self.now_us += 5000
            chance = self.draw()
            if chance < 0.2 or len(self.orders) <= 10:
                if len(self.orders) <= self.order_count:
                    yield self.new_order()
            elif chance < 0.25:
                yield self.change_order()
            elif chance < 0.26:
                yield self.change_customer()
            elif chance < 0.29 and self.alive:
                yield self.delete_item()
            elif chance < 0.34 and self.alive:
                yield from self.change_item()
            else:
                yield self.new_item()


def events(items: int, hard: bool = False) -> Iterator[Event]:
    """The workload with `items` events of the table items, in log order over all tables.

    Raises ValueError for fewer than 40 items.
    """
    return _Workload(items, hard).events()
