"""What tells that rows changed: change documents, change pointers, and the keys that they name.

A change document has the time at which its change began, in whole seconds of the system's clock, and is seen only when
the change is committed. So the time behind which nothing is missing is the clock's at the last look, less an overlap in
which a document may still show up; those of the overlap that were seen are told by their numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from connectors.sap.rfc_config import SapRfcConfig
from connectors.sap.rfc_rows import WantedTable
from connectors.sap.rfc_session import Session
from connectors.sap.rfc_table import Ability, texts
from connectors.sap.rfc_where import Key, conjunction, either
from connectors.sap.types import CHARACTERS, DdicField, literal
from libcore.errors import ConfigurationError
from libcore.sapfmt import read_rows
from libcore.sapfmt_rfc import key_plan

_DOCUMENTS_MAX = 10_000  # headers of one call
_POINTERS_AT_ONCE = 2_000
_TABLE_KEY_CHARACTERS = 70
_OBJECT_CHARACTERS = 40
STAMP = "%Y%m%d%H%M%S"
_CLASS = DdicField("OBJECTCLAS", "CHAR", 15)
_NUMBER = DdicField("CHANGENR", "CHAR", 10)


@dataclass(frozen=True)
class Changed:
    """Keys that something happened to.

    Args:
        keys: by table, each once.
        position: where to go on behind them; "" where the signal has none.
        pointers: identities of change pointers that are done with when these rows are durable.
    """

    keys: Mapping[str, Sequence[Key]]
    position: str = ""
    pointers: tuple[str, ...] = ()


class TableKeys:
    """Cuts TABKEY into the keys of the tables that are wanted. Raises ConfigurationError for others."""

    def __init__(self, tables: Mapping[str, WantedTable]) -> None:
        self._plans = {}
        for name, wanted in tables.items():
            whole = [one for one in wanted.found.fields if one.key]
            odd = [one for one in whole if one.datatype not in CHARACTERS]
            width = sum(one.length for one in whole)
            if odd or width > _TABLE_KEY_CHARACTERS:
                found = f"{odd[0].name} of {odd[0].datatype}" if odd else f"{width} characters"
                raise ConfigurationError(
                    f"source.sap_rfc: table {name}: expected a key of characters, at most {_TABLE_KEY_CHARACTERS}, as "
                    f'the keys of change documents are, found {found}: use signal = "timestamp"'
                )
            start = len(whole) - len(wanted.found.key)  # behind the client
            self._plans[name] = key_plan([(one.name, one.length) for one in whole]), start

    def cut(self, pairs: Iterable[tuple[str, str]]) -> dict[str, list[Key]]:
        """The keys of (TABNAME, TABKEY), each once, in their order; other tables are left out."""
        by_table: dict[str, dict[str, None]] = {}
        for name, text in pairs:
            if name in self._plans:
                by_table.setdefault(name, {})[text] = None
        found = {}
        for name, some in by_table.items():
            plan, start = self._plans[name]
            rows = read_rows(plan, pa.array(list(some), pa.utf8()))
            if rows.errors:
                raise ConfigurationError(f"source.sap_rfc: table {name}: TABKEY: {rows.errors[0].text}")
            found[name] = list(zip(*(column.to_pylist() for column in rows.record.columns[start:]), strict=True))
        return found


class ChangeDocuments:
    """CDHDR and CDPOS.

    Args:
        tables: those that are followed.
    """

    def __init__(
        self, session: Session, able: Ability, tables: Mapping[str, WantedTable], config: SapRfcConfig
    ) -> None:
        self._session, self._able, self._config = session, able, config
        self._keys = TableKeys(tables)
        self._classes = sorted(
            {one for name in tables for one in object_classes(session, able, name, config.object_classes)}
        )
        self._seen: dict[str, str] = {}  # number -> when, of the overlap

    def changes(self, position: str) -> Iterator[Changed]:
        """What happened behind a position, in pieces; the last one has the position of now."""
        now = self._session.clock()
        since = looked_from(position, now, self._config)
        border = since.strftime(STAMP)
        self._seen = {number: at for number, at in self._seen.items() if at >= border}
        for found, end in self._spans(since, now):
            documents = [one for one in found if one["CHANGENR"] not in self._seen]
            keys = self._keys.cut(self._items(documents))
            self._seen |= {one["CHANGENR"]: one["UDATE"] + one["UTIME"] for one in documents}
            yield Changed(keys, now.strftime(STAMP) if end is None else max(position, end.strftime(STAMP)))

    def _spans(self, since: datetime, now: datetime) -> Iterator[tuple[list[dict[str, str]], datetime | None]]:
        """The documents of spans of time, not too many at once, each with its end; None: the last span is open."""
        while True:
            found = self._headers(since, None, _DOCUMENTS_MAX + 1)
            if len(found) <= _DOCUMENTS_MAX:
                yield found, None
                return
            seconds = max(1, int((now - since).total_seconds()))
            while len(found) > _DOCUMENTS_MAX:
                seconds //= 2
                # more in one second than that are read at once: no condition would part them
                found = self._headers(since, since + timedelta(seconds=seconds), (_DOCUMENTS_MAX + 1) * (seconds > 0))
                if not seconds:
                    break
            yield found, since + timedelta(seconds=seconds)
            since += timedelta(seconds=seconds + 1)

    def _headers(self, begin: datetime, end: datetime | None, most: int) -> list[dict[str, str]]:
        classes = either([f"OBJECTCLAS = {literal(_CLASS, one)}" for one in self._classes])
        clause = conjunction(classes, _bound(begin, ">"), "" if end is None else _bound(end, "<"))
        names = ["OBJECTCLAS", "OBJECTID", "CHANGENR", "UDATE", "UTIME"]
        return texts(self._session, self._able, "CDHDR", names, clause, rows_max=most)

    def _items(self, documents: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, str]]:
        """(TABNAME, TABKEY) of some documents, as they were changed."""
        by_class: dict[str, list[str]] = {}
        for one in sorted(documents, key=lambda one: one["CHANGENR"]):
            by_class.setdefault(one["OBJECTCLAS"], []).append(_document(one["OBJECTID"], one["CHANGENR"]))
        for name, clauses in by_class.items():
            head = f"OBJECTCLAS = {literal(_CLASS, name)}"
            for some in _bundles(clauses, self._config.where_characters_max):
                clause = conjunction(head, either(some))
                for row in texts(self._session, self._able, "CDPOS", ["TABNAME", "TABKEY"], clause):
                    yield row["TABNAME"], row["TABKEY"]


def looked_from(position: str, now: datetime, config: SapRfcConfig) -> datetime:
    """The moment from which the next look reaches: the overlap before the last one.

    A clock that was set back counts from where it stood at the last look, about.
    """
    last = datetime.strptime(position, STAMP)
    if now < last:
        last = now - timedelta(seconds=config.poll_s)
    return last - timedelta(seconds=config.overlap_seconds)


def object_classes(
    session: Session, able: Ability, table: str, given: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...]:
    """The classes whose documents tell of a table. Raises ConfigurationError where there is none."""
    if table in given:
        return given[table]
    found = texts(session, able, "TCDOB", ["OBJECT"], f"TABNAME = '{table}'")
    if not found:
        raise ConfigurationError(
            f"source.sap_rfc: table {table}: expected a change document object (TCDOB), found none: no document tells "
            f'of its rows; use signal = "timestamp", or name one by object_classes = {{ {table} = ["..."] }}'
        )
    return tuple(sorted({row["OBJECT"] for row in found}))


def _bound(moment: datetime, sign: str) -> str:
    day, time = moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")
    return either([f"UDATE {sign} '{day}'", f"UDATE = '{day}' AND UTIME {sign}= '{time}'"])


def _document(identity: str, number: str) -> str:
    """One document; of an object whose name is too long for a line of OPTIONS the number alone is exact."""
    field = DdicField("OBJECTID", "CHAR", 90)
    exact = literal(field, identity)
    if len(exact) <= _OBJECT_CHARACTERS:
        return f"OBJECTID = {exact} AND CHANGENR = {literal(_NUMBER, number)}"
    head = identity[:_OBJECT_CHARACTERS].split("'")[0].split("%")[0]
    return f"OBJECTID LIKE '{head}%' AND CHANGENR = {literal(_NUMBER, number)}"


def _bundles(clauses: Sequence[str], characters_max: int) -> Iterator[list[str]]:
    held: list[str] = []
    for one in clauses:
        if held and sum(len(other) + 8 for other in held) + len(one) > characters_max:
            yield held
            held = []
        held.append(one)
    if held:
        yield held


class ChangePointers:
    """BDCP2, read and marked by SAP's own functions; a pointer is marked only when what it told of is durable."""

    def __init__(self, session: Session, tables: Mapping[str, WantedTable], config: SapRfcConfig) -> None:
        assert config.message_type is not None, "checked by the configuration"
        self._session, self._config, self._message_type = session, config, config.message_type
        self._keys = TableKeys(tables)
        self.pending: dict[str, None] = {}
        """Read, and not marked yet."""
        self.idle = False
        """Whether the last look found none."""

    def changes(self) -> Iterator[Changed]:
        """What unmarked pointers tell of, those that are pending apart."""
        self.idle = False
        if len(self.pending) >= _POINTERS_AT_ONCE:
            return  # they are marked first: all of them stand in the recovery store
        answer = self._session.call(
            self._config.pointers_read, MESSAGE_TYPE=self._message_type, READ_NOT_PROCESSED_POINTERS="X"
        )
        fresh = [row for row in answer["CHANGE_POINTERS"] if str(row["CPIDENT"]).strip() not in self.pending]
        some = fresh[:_POINTERS_AT_ONCE]
        if not some:
            self.idle = True
            return
        # a pointer to a table that nobody wants is done with as well: the message type is this reader's alone
        identities = [str(row["CPIDENT"]).strip() for row in some]
        keys = self._keys.cut((str(row["TABNAME"]).strip(), str(row["TABKEY"]).rstrip(" ")) for row in some)
        self.pending |= dict.fromkeys(identities)
        yield Changed(keys, pointers=tuple(identities))

    def mark(self, identities: Sequence[str]) -> None:
        """These are processed."""
        if not identities:
            return
        self._session.call(
            self._config.pointers_write,
            MESSAGE_TYPE=self._message_type,
            CHANGE_POINTERS_IDENTS=[{"CPIDENT": one} for one in identities],
        )
        self._session.call("BAPI_TRANSACTION_COMMIT", WAIT="X")
        for one in identities:
            self.pending.pop(one, None)
