"""What happens in one seed: transactions on two instances, log switches, lags, faults, reads and kills, by chance."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from random import Random

from tests.doubles.oracle.lob_rows import EDITS
from tests.doubles.oracle.types import LOB_INLINE_BYTES_MAX

ITEMS, PAIRS, LOOSE, OTHER = "ERP.ITEMS", "ERP.PAIRS", "ERP.LOOSE", "ERP.OTHER"
TABLES: dict[str, tuple[tuple[tuple[str, str], ...], tuple[str, ...]]] = {
    ITEMS: (
        (
            ("ID", "NUMBER(10)"), ("Name", "VARCHAR2(4000)"), ("PRICE", "NUMBER(18,4)"), ("ANY", "NUMBER"),
            ("DAY", "DATE"), ("AT", "TIMESTAMP(6)"), ("BYTES", "RAW(100)"), ("NOTE", "CLOB"),
            ("LONG", "VARCHAR2(32767)"), ("DATA", "BLOB"), ("DOC", "XMLTYPE"),
        ),
        ("ID",),
    ),
    PAIRS: ((("A", "NUMBER(5)"), ("B", "VARCHAR2(20)"), ("WIDE", "NVARCHAR2(2000)"), ("VAL", "NUMBER(9)")), ("A", "B")),
    LOOSE: ((("K", "NUMBER(5)"), ("V", "VARCHAR2(100)")), ()),
    OTHER: ((("ID", "NUMBER(10)"), ("V", "VARCHAR2(100)")), ("ID",)),
}  # fmt: skip
READ = (ITEMS, PAIRS, LOOSE)
SLOTS = 4  # transactions that are open at once
_TEXTS = (
    None,
    "",
    "a",
    "O'Neil",
    "''",
    "a,b) values ('x');",
    " and \"ID\" = '1'",
    "ü€😀",
    "line\nend",
    "NULL",
    "\\0041",
)
_XML = ("é", "it's", " ")
_FAULTS = (
    ("START_LOGMNR", 1291), ("START_LOGMNR", 310), ("ADD_LOGFILE", 1291), ("V$LOGMNR_CONTENTS", 310),
    ("V$LOGMNR_CONTENTS", 3113), ("FETCH", 3113), ("FETCH", 1013), ("CURRENT_SCN", 3113), ("CONNECT", 12514),
    ("AS OF SCN", 1555), ("V$THREAD", 3113), ("V$LOG", 3113), ("END_LOGMNR", 1307),
)  # fmt: skip


@dataclass(frozen=True)
class Change:
    """A row is inserted, updated where it is there, or deleted; nothing where another transaction holds it.

    Args:
        slot: which open transaction; it begins where there is none, in instance slot % 2 + 1.
        table, key: the row. values: new ones, None: delete it. to: a new key, of an update.
        step: how far the SCN goes on; 0: perhaps not.
        unsupported: LogMiner cannot tell the statement. bare: see Transaction.update. basic: see Transaction.
    """

    slot: int
    table: str
    key: tuple[object, ...]
    values: tuple[tuple[str, object], ...] | None
    to: tuple[object, ...] | None = None
    step: int = 1
    unsupported: bool = False
    bare: bool = False
    basic: bool = False


@dataclass(frozen=True)
class Edit:
    """The CLOB of a row that a transaction may change is edited in its place.

    Args:
        how: one of lob_rows.EDITS. text: what is written.
    """

    slot: int
    key: tuple[object, ...]
    how: str
    text: str


@dataclass(frozen=True)
class Turn:
    """One statement moves rows onto the keys of one another, as `SET K = K + 1` does.

    Args:
        keys: the rows, where they are there; each takes the next one's key, the last the first's.
    """

    slot: int
    table: str
    keys: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Savepoint:
    """A transaction marks where it is."""

    slot: int


@dataclass(frozen=True)
class Back:
    """A transaction goes back to its newest savepoint. `short`: its rows show an XID without sequence."""

    slot: int
    short: bool


@dataclass(frozen=True)
class End:
    """A transaction ends. `same`: its commit may have the SCN of the one before."""

    slot: int
    commit: bool
    same: bool = False


@dataclass(frozen=True)
class Switch:
    """A log switch of a thread; its log is archived now or later."""

    thread: int
    archive: bool


@dataclass(frozen=True)
class Archive:
    """All finished logs are archived."""


@dataclass(frozen=True)
class Lag:
    """A thread's redo is held back, or comes at last."""

    thread: int
    held: bool


@dataclass(frozen=True)
class Noise:
    """Records that say nothing of the tables: internal ones, temporary tables, markers."""

    slot: int


@dataclass(frozen=True)
class Truncated:
    """A table is emptied by DDL."""

    table: str


@dataclass(frozen=True)
class Column:
    """A table gains a column, with a default."""

    table: str
    name: str
    default: object


@dataclass(frozen=True)
class Dropped:
    """A table loses the column again."""

    table: str
    name: str


@dataclass(frozen=True)
class Overtaken:
    """All archived logs are deleted, or LogMiner tells of a gap: what was not read is lost, tables are read anew."""

    gap: bool


@dataclass(frozen=True)
class Fault:
    """A later statement fails."""

    pattern: str
    code: int
    skip: int


@dataclass(frozen=True)
class Read:
    """The connector goes on for so many steps."""

    steps: int


@dataclass(frozen=True)
class Kill:
    """The connector dies, `lost` of its pieces not durable; it begins again behind the one before."""

    lost: int


@dataclass(frozen=True)
class Purge:
    """Archived logs that nobody should need any more are deleted; the connector has read up to now."""


Event = (
    Change
    | Edit
    | Turn
    | Savepoint
    | Back
    | End
    | Switch
    | Archive
    | Lag
    | Noise
    | Truncated
    | Column
    | Dropped
    | Overtaken
    | Fault
    | Read
    | Kill
    | Purge
)


@dataclass(frozen=True)
class Schedule:
    """One seed's history.

    Args:
        mode: how the connector mines.
        chunk_rows, batch_rows_max, window_scns, transaction_bytes: its settings.
        stripped: in committed mode rows that savepoints took back are left out by the database.
        positional: rows of before a DDL are mined without names.
        whole: PAIRS has its old rows logged whole, not their keys alone.
        on_lost: what the connector does where redo is lost.
    """

    seed: int
    mode: str
    chunk_rows: int
    batch_rows_max: int
    window_scns: int
    stripped: bool
    positional: bool
    whole: bool
    on_lost: str
    events: tuple[Event, ...]


def draw(seed: int) -> Schedule:
    """The history of a seed, the same each time."""
    random = Random(seed)
    count = random.choice((20, 60, 120, 200))
    events: list[Event] = []
    shape = random.random() < 0.4
    lob = random.random() < 0.4
    lost = random.random() < 0.3
    for _ in range(count):
        events += _event(random, shape, lob, lost)
    events = [*_turned(Random(f"turns {seed}"), events)]  # of their own, so that a seed's other events stay
    return Schedule(
        seed,
        mode=random.choice(("logminer", "logminer", "logminer_committed")),
        chunk_rows=random.choice((1, 3, 10, 1000)),
        batch_rows_max=random.choice((2, 5, 50)),
        window_scns=random.choice((1, 7, 40, 1000)),
        stripped=random.random() < 0.5,
        positional=random.random() < 0.3,
        whole=random.random() < 0.6,
        on_lost="snapshot" if lost else "stop",
        events=tuple(events),
    )


def _event(random: Random, shape: bool, lob: bool, lost: bool) -> Iterator[Event]:
    slot, thread = random.randrange(SLOTS), random.randint(1, 2)
    chance = random.random() * 100
    if chance < 50:
        yield from _changes(random, slot, lob)
    elif chance < 56:
        yield Savepoint(slot)
    elif chance < 61:
        yield Back(slot, random.random() < 0.5)
    elif chance < 73:
        yield End(slot, random.random() < 0.75, random.random() < 0.3)
        if random.random() < 0.3:
            yield End((slot + 1) % SLOTS, commit=True, same=True)
    elif chance < 77:
        yield Switch(thread, random.random() < 0.6)
    elif chance < 79:
        yield Archive()
    elif chance < 81.5:
        yield Lag(thread, random.random() < 0.5)
    elif chance < 83:
        yield Noise(slot)
    elif chance < 85.5 and shape:
        table, name = random.choice((ITEMS, PAIRS)), f"X{random.randrange(2)}"
        added = Column(table, name, random.choice((None, 7)))
        yield random.choice((Truncated(table), added, added, Dropped(table, name)))
    elif chance < 86.2 and lost:
        yield Overtaken(random.random() < 0.3)
    elif chance < 88:
        yield Fault(*random.choice(_FAULTS), random.randrange(3))
    elif chance < 96:
        yield Read(random.choice((1, 2, 5, 20)))
    elif chance < 98.5:
        yield Kill(random.randrange(4))
    else:
        yield Purge()


def _changes(random: Random, slot: int, lob: bool) -> Iterator[Event]:
    table = random.choice((ITEMS, ITEMS, ITEMS, PAIRS, PAIRS, LOOSE, OTHER))
    for _ in range(random.choice((1, 1, 2, 5))):
        key, to = _key(random, table), None
        values: tuple[tuple[str, object], ...] | None = None
        if random.random() < 0.8:
            columns = [name for name, _ in TABLES[table][0] if name not in TABLES[table][1]]
            some = random.sample(columns, random.randint(1, len(columns)))
            values = tuple((name, _value(random, table, name, lob)) for name in some)
            to = _key(random, table) if random.random() < 0.05 and TABLES[table][1] else None
        unsupported = lob and table != LOOSE and random.random() < 0.05
        bare, basic = random.random() < 0.5, lob and random.random() < 0.1
        yield Change(slot, table, key, values, to, random.choice((0, 1, 1, 3)), unsupported, bare, basic)
        if lob and random.random() < 0.15:
            yield Edit(slot, _key(random, ITEMS), random.choice(EDITS), random.choice(("é'", "xyz😀", "b" * 1500)))


def _turned(random: Random, events: Sequence[Event]) -> Iterator[Event]:
    """The events, and rows that hand their keys round behind changes of their table."""
    often = random.choice((0, 0, 0.02, 0.2))
    for event in events:
        yield event
        if isinstance(event, Change) and TABLES[event.table][1] and random.random() < often:
            keys = {event.key: None} | {_key(random, event.table): None for _ in range(random.choice((1, 2, 5)))}
            yield Turn(event.slot, event.table, tuple(keys))


def _key(random: Random, table: str) -> tuple[object, ...]:
    if table == PAIRS:
        return random.randrange(4), random.choice(("x", "y'", "ü"))
    return (random.randrange(12),)


def _value(random: Random, table: str, name: str, lob: bool) -> object:
    kind = dict(TABLES[table][0])[name]
    if random.random() < 0.2:
        return None
    if kind.startswith("NUMBER(") or kind == "NUMBER":
        digits = {"PRICE": 4, "ANY": random.choice((0, 3, 20))}.get(name, 0)
        size = {"ANY": 30, "PRICE": 14, "K": 4}.get(name, 9)
        number = random.randrange(-(10 ** random.randint(1, size)), 10 ** random.randint(1, size))
        number %= 100 if name == "K" else 10**40
        sign, text = "-" * (random.random() < 0.5 and name != "K"), f"{number % 10**size:0{digits + 1}d}"
        return f"{sign}{text[:-digits]}.{text[-digits:]}" if digits else f"{sign}{text}"
    if kind == "DATE":
        year = random.choice((1000, 1582, 1970, 2026))
        return f"{year}-{random.randint(1, 12):02d}-05 23:59:0{random.randrange(9)}"
    if kind.startswith("TIMESTAMP"):
        return f"2026-02-{random.randint(1, 28):02d} 00:00:00.{random.choice(('', '5', '123456', '000001'))}"
    if kind.startswith("RAW"):
        return random.randbytes(random.randrange(1, 20))
    if kind == "CLOB" and lob and random.random() < 0.4:
        return "ab'ü😀" * random.randint(LOB_INLINE_BYTES_MAX // 8, 3 * LOB_INLINE_BYTES_MAX // 8)
    if kind == "BLOB":
        return random.randbytes(random.choice((3, 5000)) if lob else 3)
    if kind == "XMLTYPE":
        return f"<a b='{random.randrange(9)}'>{random.choice(_XML)}</a>" if lob and random.random() < 0.15 else None
    if name == "LONG" and lob and random.random() < 0.15:
        return "Lö'ng " * random.randint(600, 1500)
    if name in ("Name", "WIDE", "LONG") and random.random() < 0.1:
        return random.choice(("é'", "xyz", "€")) * random.randint(300, 660)
    return random.choice(_TEXTS)


def show(schedule: Schedule) -> str:
    """A history for a person, a line an event."""
    head = [f"{one.name}={getattr(schedule, one.name)!r}" for one in fields(schedule) if one.name != "events"]
    return "\n".join([", ".join(head), *(f"  {str(event)[:200]}" for event in schedule.events)])
