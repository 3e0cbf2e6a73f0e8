"""DBMS_LOGMNR in one session: which logs it was given, and V$LOGMNR_CONTENTS over what is in them."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from tests.doubles.oracle.errors import failure

_COLUMNS = """r.scn SCN, {start} START_SCN, {commit} COMMIT_SCN, r.rs_id RS_ID, r.ssn SSN, r.code OPERATION_CODE,
    r.operation OPERATION, r.xid XID, r.csf CSF, {sql} SQL_REDO, {owner} SEG_OWNER, {name} TABLE_NAME,
    r.row_id ROW_ID, r.rollback ROLLBACK, {status} STATUS, {info} INFO, r.at "TIMESTAMP", r.thread "THREAD#",
    r.sequence "SEQUENCE#", r.data_obj "DATA_OBJ#", r.data_objv "DATA_OBJV#", r.data_obj "DATA_OBJD#",
    NULL START_TIMESTAMP, NULL COMMIT_TIMESTAMP, 'ERP' USERNAME, NULL CLIENT_ID, {container} SRC_CON_NAME"""
_MINED = """r.visible AND r.scn BETWEEN {first} AND {last}
    AND EXISTS (SELECT 1 FROM temp.mined m WHERE m.thread = r.thread AND m.sequence = r.sequence)"""
# with the online catalog, of a row that was written before a DDL LogMiner knows numbers only
_LOST = "r.code IN (1, 2, 3) AND NOT r.rollback AND r.data_objv < t.version"
_KEY = '"COL 1" = HEXTORAW(c102)'
_OBJECT = '"UNKNOWN"."OBJ# \' || r.data_obj || \'"'
_NUMBERED = f"""CASE r.code WHEN 1 THEN 'insert into {_OBJECT}("COL 1") values (HEXTORAW(''c102''))'
    WHEN 2 THEN 'delete from {_OBJECT} where {_KEY}'
    ELSE 'update {_OBJECT} set "COL 2" = HEXTORAW(''41'') where {_KEY}' END"""


class LogMiner:
    """One session's LogMiner."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._files: dict[str, tuple[int, int, int | None]] = {}  # name: thread, sequence, group where it is online
        self.active = False
        connection.execute("CREATE TEMP TABLE mined (thread INTEGER, sequence INTEGER)")

    def call(self, block: str, binds: Mapping[str, Any]) -> None:
        """Run a PL/SQL block that calls one of DBMS_LOGMNR's procedures. Raises DatabaseError."""
        found = re.fullmatch(
            r"\s*BEGIN\s+(?:SYS\.)?DBMS_LOGMNR(?:_D)?\.(\w+)\s*(?:\((.*)\))?\s*;\s*END;\s*", block, re.I | re.S
        )
        if found is None:
            raise failure(900, block)
        arguments = dict(re.findall(r"(\w+)\s*=>\s*([^,]+)", found[2] or ""))
        given = {name.upper(): _value(text.strip(), binds) for name, text in arguments.items()}
        procedure = found[1].upper()
        if procedure == "ADD_LOGFILE":
            self._add(given["LOGFILENAME"], new=str(given.get("OPTIONS", "")).upper().endswith(".NEW"))
        elif procedure == "START_LOGMNR":
            self._start(int(given["STARTSCN"]), int(given["ENDSCN"]), str(given["OPTIONS"]).upper())
        elif procedure == "END_LOGMNR":
            if not self.active:
                raise failure(1307)
            self._end()
        elif procedure == "REMOVE_LOGFILE":
            self._files.pop(given["LOGFILENAME"], None)
        elif procedure != "BUILD":
            raise failure(6550, procedure)

    def check(self) -> None:
        """Before V$LOGMNR_CONTENTS is read. Raises DatabaseError: no session, or a log was written over."""
        if not self.active:
            raise failure(1306)
        self._still_there()

    def _end(self) -> None:
        self.active = False
        self._connection.execute('DROP VIEW IF EXISTS temp."V$LOGMNR_CONTENTS"')

    def _add(self, name: str, *, new: bool) -> None:
        if new:
            self._files.clear()
        if name in self._files:
            raise failure(1289, name)
        asked = """SELECT thread, sequence, NULL FROM log
            WHERE archived AND NOT purged AND 'arch_' || thread || '_' || sequence || '.arc' = ?"""
        if name.startswith("redo"):
            asked = "SELECT thread, max(sequence), grp FROM log WHERE 'redo' || grp || '.log' = ? GROUP BY thread"
        rows = self._connection.execute(asked, [name]).fetchall()
        if not rows:
            raise failure(1284, name)
        thread, sequence, group = rows[0]
        if any(found[:2] == (thread, sequence) for found in self._files.values()):
            raise failure(1289, name)
        self._files[name] = (thread, sequence, group)

    def _still_there(self) -> None:
        for name, (thread, sequence, group) in self._files.items():
            (newest, purged) = self._connection.execute(
                "SELECT max(sequence), (SELECT purged FROM log WHERE thread = :t AND sequence = :s) "
                "FROM log WHERE thread = :t AND (:g IS NULL OR grp = :g)",
                {"t": thread, "s": sequence, "g": group},
            ).fetchone()
            if group is not None and newest != sequence:
                raise failure(310, name)
            if group is None and purged:
                raise failure(1284, name)

    def _start(self, first: int, last: int, options: str) -> None:
        if not self._files:
            raise failure(1292)
        self._still_there()
        mined = sorted((thread, sequence) for thread, sequence, _ in self._files.values())
        for (thread,) in self._connection.execute("SELECT number FROM thread").fetchall():
            sequences = [sequence for one, sequence in mined if one == thread]
            if not sequences or sequences != list(range(sequences[0], sequences[-1] + 1)):
                raise failure(1291, f"thread {thread}: {sequences}")
            begin = self._connection.execute(
                "SELECT first_change FROM log WHERE thread = ? AND sequence = ?", [thread, sequences[0]]
            ).fetchone()
            if begin[0] > first:
                raise failure(1291, f"thread {thread} begins at {begin[0]}, behind {first}")
        self._end()
        self._connection.execute("DELETE FROM temp.mined")
        self._connection.executemany("INSERT INTO temp.mined VALUES (?, ?)", mined)
        self._connection.execute(
            f'CREATE TEMP VIEW "V$LOGMNR_CONTENTS" AS {self._contents(first, last, "COMMITTED_DATA_ONLY" in options)}'
        )
        self.active = True

    def _contents(self, first: int, last: int, committed: bool) -> str:
        settings = dict(self._connection.execute("SELECT name, value FROM setting").fetchall())
        told = {
            "start": "x.start_scn" if committed else "NULL",
            "commit": "x.commit_scn" if committed else "NULL",
            "sql": "r.sql_redo", "owner": "r.seg_owner", "name": "r.table_name", "status": "r.status",
            "info": "r.info", "container": f"coalesce(r.container, '{settings.get('pdb', 'ORCL')}')",
        }  # fmt: skip
        source, order = "main.redo r", "r.place"
        if settings.get("positional"):
            source += " LEFT JOIN main.tab t ON t.object = r.data_obj"
            told |= {
                "sql": f"CASE WHEN {_LOST} THEN {_NUMBERED} ELSE r.sql_redo END",
                "owner": f"CASE WHEN {_LOST} THEN 'UNKNOWN' ELSE r.seg_owner END",
                "name": f"CASE WHEN {_LOST} THEN 'OBJ# ' || r.data_obj ELSE r.table_name END",
                "status": f"CASE WHEN {_LOST} THEN 2 ELSE r.status END",
                "info": f"CASE WHEN {_LOST} THEN 'Dictionary Version Mismatch' ELSE r.info END",
            }
        where = _MINED.format(first=first, last=last)
        if committed:
            source += " LEFT JOIN main.txn x ON x.id = r.txn AND r.code <> 5"
            ended = _MINED.replace("r.", "c.").format(first=first, last=last)
            where += f"""
                AND (r.code IN (5, 34)
                    OR x.commit_place IN (SELECT c.place FROM main.redo c WHERE c.code = 7 AND {ended}))"""
            where += " AND NOT r.undone" if settings.get("committed_undo") == "stripped" else ""
            order = "coalesce(x.commit_place, r.place), r.place"
        return f"SELECT {_COLUMNS.format(**told)} FROM {source} WHERE {where} ORDER BY {order}"


def _value(text: str, binds: Mapping[str, Any]) -> Any:
    if text.startswith(":"):
        return binds[text[1:]]
    return text[1:-1].replace("''", "'") if text.startswith("'") else text
