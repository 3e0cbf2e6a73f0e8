"""How far an Oracle database was read: what the recovery store keeps of it, as plain values."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from connectors.base.requests import Request
from libcore.errors import ConfigurationError
from libcore.schema import Table

VERSION = 2
Phase = Literal["new", "snapshot", "stream"]


@dataclass(frozen=True)
class State:
    """Progress of one source.

    Args:
        phase: "new": nothing is known. "snapshot": rows are read. "stream": changes are.
        database: DBID and RESETLOGS_CHANGE#.
        scn: as of which the snapshot is read; the stream passes over what committed up to there.
        resume_scn: changes above it are mined: no transaction that is not given out yet began before.
        done: tables whose rows are read. table: the one being read, "" for none. after: its last key that was read.
        floors: (table, SCN): what committed up to there is in the table's rows, which were read later.
        commits: (thread, SCN, XIDs): what committed in that redo thread below the SCN, and these at it, is given out.
        part: (XID, rows, tables) of a large transaction of which so many rows of these tables are given out; None: of
            none. States of older versions lack the tables.
        rows: rows that were read of tables, which numbers them.
        again: tables to be read anew, with what the target holds of them removed first; also those that the pipeline
            does without, for when they return.
        marks: (table, time as text) of mode timestamp: up to where its rows are read.
        shapes: (table, names of its columns) as its rows were brought up to now.
        read_scn: as of which the open table is read, where that is not `scn`; 0: it is.
        requests: tables to be read again beside the changes. answered: ids of the newest of them that are done.
    """

    phase: Phase = "new"
    database: tuple[int, int] = (0, 0)
    scn: int = 0
    resume_scn: int = 0
    done: tuple[str, ...] = ()
    table: str = ""
    after: tuple[str, ...] | None = None
    floors: tuple[tuple[str, int], ...] = ()
    commits: tuple[tuple[int, int, tuple[bytes, ...]], ...] = ()
    part: tuple[bytes, int, tuple[str, ...]] | tuple[bytes, int] | None = None
    rows: int = 0
    again: tuple[str, ...] = ()
    read_scn: int = 0
    marks: tuple[tuple[str, str], ...] = ()
    shapes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    requests: tuple[Request, ...] = ()
    answered: tuple[str, ...] = ()

    def packed(self) -> tuple[Any, ...]:
        """For the recovery store."""
        return (
            VERSION, self.phase, self.database, self.scn, self.resume_scn, self.done, self.table, self.after,
            self.floors, self.commits, self.part, self.rows, self.again, self.read_scn, self.marks,
            self.shapes, self.requests, self.answered,
        )  # fmt: skip

    def given(self, thread: int, scn: int, xid: bytes) -> bool:
        """Whether that transaction is given out already, or older than all that is read."""
        for known, last, xids in self.commits:
            if known == thread:
                return scn < last or (scn == last and xid in xids)
        return scn <= self.scn

    def following(self, tables: Collection[str]) -> State:
        """With tables that were read and that the pipeline does without now: their changes are passed from here on."""
        return self.anew(name for name in (*self.done, self.table) if name and name not in tables)

    def anew(self, tables: Iterable[str]) -> State:
        """With tables that are to be read anew."""
        return replace(self, again=tuple(dict.fromkeys((*self.again, *tables))))

    def shaped(self, tables: Mapping[str, Table], *, anew: bool = False) -> State:
        """With the columns of these tables; of known ones only where `anew`."""
        found = {name: tuple(column.name for column in table.columns) for name, table in tables.items()}
        known = dict(self.shapes)
        return replace(self, shapes=tuple(sorted((known | found if anew else found | known).items())))

    def behind(self, ends: Iterable[tuple[int, int, bytes]]) -> State:
        """With more transactions given out: (thread, SCN, XID) of each, in their order."""
        known = {thread: (scn, xids) for thread, scn, xids in self.commits}
        for thread, scn, xid in ends:
            last, xids = known.get(thread, (0, ()))
            known[thread] = (scn, (*xids, xid) if last == scn else (xid,))
        return replace(self, commits=tuple((thread, *rest) for thread, rest in sorted(known.items())), part=None)


def unpacked(state: tuple[Any, ...]) -> State:
    """What `packed` gave. Raises ConfigurationError for another version's."""
    if state[0] != VERSION or len(state) != 18:
        raise ConfigurationError(
            f"source.oracle: expected recovery state of version {VERSION}, found {state[0]!r}: it was written by "
            "another version of headrace"
        )
    return State(*state[1:])
