"""How far a database was read: what the recovery store keeps of it, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from connectors.base.requests import Request
from libcore.errors import ConfigurationError

VERSION = 2
LSN_BYTES = 10
NOTHING = bytes(LSN_BYTES)
AWAY = "away"

Place = tuple[bytes, int, bytes]
"""Behind which row of all change tables: LSN, command, sequence."""
_LAST_COMMAND, _LAST_SEQUENCE = (1 << 31) - 1, b"\xff" * LSN_BYTES


def border(lsn: bytes) -> Place:
    """Behind all rows of the transactions up to that LSN."""
    return (lsn, _LAST_COMMAND, _LAST_SEQUENCE)


def is_border(place: Place) -> bool:
    """Whether the place lies between two transactions."""
    return place[1] == _LAST_COMMAND


def lsn_behind(lsn: bytes, step: int = 1) -> bytes:
    """The next LSN that could be, or with -1 the one before."""
    return (int.from_bytes(lsn, "big") + step).to_bytes(LSN_BYTES, "big")


@dataclass(frozen=True)
class Read:
    """A table whose rows are read, or are being read.

    Args:
        table: "schema.table".
        since: LSN (change data capture) or version (change tracking) up to which changes are in its rows already.
        columns: those that have values of their rows.
        after: being read: the key behind which it goes on, () at the beginning; None: it is done.
        how: "first", "emptied" (its rows in the target went first), "filled" (columns are filled in), AWAY (the
            pipeline does without it, and change tables are passed over).
    """

    table: str
    since: Any
    columns: tuple[str, ...]
    after: tuple[Any, ...] | None = ()
    how: str = "first"


@dataclass(frozen=True)
class State:
    """One database's progress.

    Args:
        mode: as configured. place: of the change tables; None before the first start, and with change tracking.
        reads: tables read and being read. rows: counts rows that have no position of their own.
        requests: tables to be read again, beside that. answered: ids of the newest of them that are done.
    """

    mode: str = ""
    place: Place | None = None
    reads: tuple[Read, ...] = ()
    rows: int = 0
    requests: tuple[Request, ...] = ()
    answered: tuple[str, ...] = ()

    def read(self, table: str) -> Read | None:
        """What is known of a table."""
        return next((one for one in self.reads if one.table == table), None)

    def with_read(self, read: Read) -> State:
        """With what is known of one table."""
        return replace(self, reads=(*(one for one in self.reads if one.table != read.table), read))

    def packed(self) -> tuple[Any, ...]:
        """For the recovery store."""
        reads = tuple((one.table, one.since, one.columns, one.after, one.how) for one in self.reads)
        return (VERSION, self.mode, self.place, reads, self.rows, self.requests, self.answered)


def unpacked(state: tuple[Any, ...], mode: str) -> State:
    """What `packed` gave. Raises ConfigurationError for another version's, or another mode's."""
    if state[0] != VERSION or len(state) != 7:
        raise ConfigurationError(
            f"source.sqlserver: expected recovery state of version {VERSION}, found {state[0]!r}: it was written by "
            "another version of headrace"
        )
    _, found, place, reads, rows, requests, answered = state
    if found not in ("", mode):
        raise ConfigurationError(
            f'source.sqlserver.mode: expected "{found}", by which it was read so far, found "{mode}": begin with a new '
            "state directory"
        )
    return State(mode, place, tuple(Read(*one) for one in reads), rows, requests, answered)
