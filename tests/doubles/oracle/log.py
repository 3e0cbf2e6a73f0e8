"""The redo logs of the double: records of each thread, their flush, log switches, archiving, retention."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from tests.doubles.oracle import store
from tests.doubles.oracle.redo_text import split

EPOCH = "2026-01-02 03:04:05"
NO_ROW = "AAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True)
class Record:
    """What V$LOGMNR_CONTENTS says of one redo record.

    Args:
        code, operation: what it does, as number and as word.
        sql: its statement; of any length, for pieces are made of it.
        table: "OWNER.NAME", "" for none. object, version: the table's numbers.
        row_id: the row's.
        rollback: it takes an earlier one of its transaction back.
        status, info: of what LogMiner could not make a statement of.
        container: the pluggable database it is of; "": that of the database's tables.
    """

    code: int
    operation: str
    sql: str | None = None
    table: str = ""
    object: int = 0
    version: int = 0
    row_id: str = NO_ROW
    rollback: bool = False
    status: int = 0
    info: str | None = None
    container: str = ""


class RedoLog:
    """The logs of all threads; used by the one writer."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._block: dict[int, int] = {}

    def append(self, thread: int, txn: int, xid: bytes, record: Record, *, step: int = 1) -> tuple[int, int]:
        """Write a record, in pieces where its statement is long; its SCN and its first place.

        Args:
            txn: the double's own number of the transaction. xid: as the row shows it, perhaps without its sequence.
            step: how far its SCN lies behind the last one of all threads; 0: perhaps the same.
        """
        with store.atomic(self._connection):
            return self._append(thread, txn, xid, record, step)

    def _append(self, thread: int, txn: int, xid: bytes, record: Record, step: int) -> tuple[int, int]:
        scn = store.next_scn(self._connection, step)
        ((sequence, frozen),) = self._connection.execute(
            "SELECT max(l.sequence), t.frozen FROM log l JOIN thread t ON t.number = l.thread WHERE l.thread = ?",
            [thread],
        ).fetchall()
        block = self._block[thread] = self._block.get(thread, 0) + 1
        rs_id = f" 0x{sequence:06x}.{block:08x}.{16 + block % 480:04x} "
        owner, _, name = record.table.partition(".")
        pieces = split(record.sql)
        shared = [thread, sequence, int(not frozen), txn, scn, rs_id, 0, xid, record.code, record.operation]
        behind = [
            owner or None, name or None, record.row_id, int(record.rollback), record.status, record.info, EPOCH,
            record.object, record.version, record.container or None,
        ]  # fmt: skip
        place = 0
        for index, piece in enumerate(pieces):
            made = self._connection.execute(
                "INSERT INTO redo (thread, sequence, visible, txn, scn, rs_id, ssn, xid, code, operation, csf, "
                "sql_redo, seg_owner, table_name, row_id, rollback, status, info, at, data_obj, data_objv, "
                "container) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [*shared, int(index < len(pieces) - 1), piece, *behind],
            )
            place = place or int(made.lastrowid or 0)
        return scn, place

    def freeze(self, thread: int) -> None:
        """From here on the thread's redo is not flushed: it cannot be mined yet, though commits are seen in tables."""
        self._connection.execute(
            "UPDATE thread SET last_redo = (SELECT scn FROM clock), frozen = 1 WHERE number = ? AND NOT frozen",
            [thread],
        )

    def flush(self, thread: int) -> None:
        """Everything the thread wrote can be mined, and what it writes."""
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("UPDATE redo SET visible = 1 WHERE thread = ? AND visible = 0", [thread])
        self._connection.execute("UPDATE thread SET frozen = 0 WHERE number = ?", [thread])
        self._connection.execute("COMMIT")

    def switch(self, thread: int, *, archive: bool = True) -> None:
        """A log switch. `archive`: the finished log is archived at once; else `archive` does it later."""
        self.flush(thread)
        self._connection.execute("BEGIN IMMEDIATE")
        scn = store.next_scn(self._connection, 1)
        (sequence,) = self._connection.execute("SELECT max(sequence) FROM log WHERE thread = ?", [thread]).fetchone()
        group = thread * 3 - 2 + (sequence + 1 - 10 * thread) % 3
        # a group is written again only when what was in it is archived
        self._connection.execute("UPDATE log SET archived = 1 WHERE grp = ?", [group])
        self._connection.execute(
            "UPDATE log SET next_change = ?, archived = ? WHERE thread = ? AND sequence = ?",
            [scn, int(archive), thread, sequence],
        )
        self._connection.execute("INSERT INTO log VALUES (?, ?, ?, NULL, ?, 0, 0)", [thread, sequence + 1, scn, group])
        self._connection.execute("COMMIT")
        self._block[thread] = 0

    def archive(self) -> None:
        """Archive every finished log."""
        self._connection.execute("UPDATE log SET archived = 1 WHERE next_change IS NOT NULL")

    def purge(self, up_to: int) -> None:
        """Delete archived logs that end at an SCN or before; online groups stay until they are written again."""
        self._connection.execute("UPDATE log SET purged = 1 WHERE archived AND next_change <= ?", [up_to])

    def forget_undo(self, up_to: int) -> None:
        """Flashback reads before that SCN fail with ORA-01555 from now on."""
        self._connection.execute("UPDATE clock SET undo_from = ?", [up_to])
