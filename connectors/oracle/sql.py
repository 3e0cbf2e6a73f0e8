"""Every statement that the Oracle source sends: its text, its binds, the columns that come back.

Binds are named, given as a dictionary. A statement ending in `_SCHEMA` here is fetched as Arrow by
`connection.fetch_df_batches(statement, parameters, size=, requested_schema=)`, all others by `cursor.execute` and
`cursor.fetchall`. Names of tables and columns come in their dictionary's case, always quoted.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

SESSION = (
    "ALTER SESSION SET NLS_DATE_FORMAT = 'SYYYY-MM-DD HH24:MI:SS' NLS_TIMESTAMP_FORMAT = 'SYYYY-MM-DD HH24:MI:SS.FF9' "
    "NLS_TIMESTAMP_TZ_FORMAT = 'SYYYY-MM-DD HH24:MI:SS.FF9 TZH:TZM' NLS_NUMERIC_CHARACTERS = '.,' NLS_SORT = 'BINARY' "
    "NLS_COMP = 'BINARY' TIME_ZONE = '+00:00'"
)
"""Fixes how literals and texts look; the first statement of every session."""


def container(pdb: str) -> str:
    """Move a session into a pluggable database."""
    return f"ALTER SESSION SET CONTAINER = {quote(pdb)}"


DATABASE = (
    "SELECT DBID, RESETLOGS_CHANGE#, CURRENT_SCN, LOG_MODE, SUPPLEMENTAL_LOG_DATA_MIN, SUPPLEMENTAL_LOG_DATA_ALL "
    "FROM V$DATABASE"
)
"""One row: int, int, int, 'ARCHIVELOG' or 'NOARCHIVELOG', 'YES' 'NO' 'IMPLICIT', 'YES' 'NO'."""

CONTAINER = "SELECT CDB, SYS_CONTEXT('USERENV', 'CON_NAME') FROM V$DATABASE"
"""One row: 'YES' where there are containers; the session's own, 'CDB$ROOT' or a pluggable database."""

SERVER_OFFSET = "SELECT TO_CHAR(SYSTIMESTAMP, 'TZH:TZM') FROM DUAL"
"""One row: '+01:00', the offset in which V$LOGMNR_CONTENTS.TIMESTAMP is told."""

CURRENT_SCN = "SELECT CURRENT_SCN FROM V$DATABASE"
"""One row: int."""

OLDEST_OPEN = "SELECT MIN(START_SCN) FROM GV$TRANSACTION WHERE START_SCN > 0"
"""One row: int or NULL. GV$, for a node's own view lacks the others' transactions; MIN hides doubles."""

THREADS = "SELECT THREAD#, LAST_REDO_CHANGE# FROM V$THREAD WHERE STATUS = 'OPEN' ORDER BY 1"
"""Redo threads that write: int, int. All rows of an SCN up to the least LAST_REDO_CHANGE# are there."""

LOGS = (
    "SELECT MIN(F.MEMBER) AS NAME, L.FIRST_CHANGE#, L.NEXT_CHANGE#, L.SEQUENCE#, L.THREAD#, 'ONLINE' AS KIND, L.STATUS "
    "FROM V$LOGFILE F, V$LOG L WHERE L.STATUS <> 'UNUSED' AND F.GROUP# = L.GROUP# "
    "GROUP BY F.GROUP#, L.FIRST_CHANGE#, L.NEXT_CHANGE#, L.SEQUENCE#, L.THREAD#, L.STATUS "
    "UNION ALL SELECT A.NAME, A.FIRST_CHANGE#, A.NEXT_CHANGE#, A.SEQUENCE#, A.THREAD#, 'ARCHIVED', A.STATUS "
    "FROM V$ARCHIVED_LOG A, V$DATABASE D WHERE A.NAME IS NOT NULL AND A.ARCHIVED = 'YES' AND A.STATUS = 'A' "
    "AND A.STANDBY_DEST = 'NO' AND A.NEXT_CHANGE# > :scn AND A.RESETLOGS_CHANGE# = D.RESETLOGS_CHANGE# "
    "AND A.RESETLOGS_TIME = D.RESETLOGS_TIME"
)
"""Binds scn: archived logs that end at or before it are left out. Rows: file name, first SCN in it, first SCN behind
it (a very large number for the current one), sequence, thread, 'ONLINE' 'ARCHIVED', V$LOG.STATUS ('CURRENT' 'ACTIVE'
'INACTIVE') or 'A'. A log may come twice, online and archived."""

CURRENT_LOGS = "SELECT THREAD#, SEQUENCE# FROM V$LOG WHERE STATUS = 'CURRENT' ORDER BY 1"
"""Rows int, int; another answer than before is a log switch."""

OLDEST_LOG = (
    "SELECT MIN(A.FIRST_CHANGE#) FROM (SELECT FIRST_CHANGE# FROM V$LOG WHERE STATUS <> 'UNUSED' UNION ALL "
    "SELECT L.FIRST_CHANGE# FROM V$ARCHIVED_LOG L, V$DATABASE D WHERE L.NAME IS NOT NULL AND L.ARCHIVED = 'YES' "
    "AND L.STATUS = 'A' AND L.RESETLOGS_CHANGE# = D.RESETLOGS_CHANGE#) A"
)
"""One row: int."""

ADD_LOG_NEW = (
    "BEGIN SYS.DBMS_LOGMNR.ADD_LOGFILE(LOGFILENAME => :name, OPTIONS => SYS.DBMS_LOGMNR.NEW); END;"  # the first file
)
ADD_LOG = "BEGIN SYS.DBMS_LOGMNR.ADD_LOGFILE(LOGFILENAME => :name, OPTIONS => SYS.DBMS_LOGMNR.ADDFILE); END;"
_OPTIONS = "SYS.DBMS_LOGMNR.DICT_FROM_ONLINE_CATALOG + SYS.DBMS_LOGMNR.NO_ROWID_IN_STMT"
START = f"BEGIN SYS.DBMS_LOGMNR.START_LOGMNR(STARTSCN => :first, ENDSCN => :last, OPTIONS => {_OPTIONS}); END;"
START_COMMITTED = START.replace("_IN_STMT)", "_IN_STMT + SYS.DBMS_LOGMNR.COMMITTED_DATA_ONLY)")
END = "BEGIN SYS.DBMS_LOGMNR.END_LOGMNR(); END;"
"""Binds of START: first and last SCN, both inside. ORA-01307 of END: none was started."""

CONTENTS_SCHEMA = pa.schema(
    [
        ("SCN", pa.int64()),
        ("START_SCN", pa.int64()),
        ("COMMIT_SCN", pa.int64()),
        ("OPERATION_CODE", pa.int16()),
        ("XID", pa.binary()),
        ("CSF", pa.int8()),
        ("ROLLBACK", pa.int8()),
        ("STATUS", pa.int32()),
        ("THREAD#", pa.int16()),
        ("SEG_OWNER", pa.utf8()),
        ("TABLE_NAME", pa.utf8()),
        ("ROW_ID", pa.utf8()),
        ("SQL_REDO", pa.utf8()),
        ("INFO", pa.utf8()),
        ("TIMESTAMP", pa.timestamp("s")),
        ("DATA_OBJ#", pa.int64()),
    ]
)
"""Columns of what is mined. XID: RAW(8); TIMESTAMP: a DATE in the server's own offset, see SERVER_OFFSET."""

_TOLD = (1, 2, 3, 9, 10, 11, 28, 29, 68, 91, 255)
"""INSERT DELETE UPDATE, SELECT_LOB_LOCATOR LOB_WRITE LOB_TRIM LOB_ERASE (two numbers), XML_DOC_BEGIN, 32K_BEGIN,
UNSUPPORTED: only those of wanted tables.

What is written into an XML document or a long string (70, 71, 92, 93) is not asked for: the row that 68 and 91 name is
read again.
"""
_ALWAYS = (7, 27, 34, 36)
"""COMMIT REPLICATION_MARKER MISSING_SCN ROLLBACK: of every transaction. A START says nothing that is needed."""
TABLES_AT_ONCE = 900


def contents(tables: Sequence[tuple[str, str]], *, committed: bool = False, pdb: str = "") -> str:
    """V$LOGMNR_CONTENTS of a window, in its own order; binds low, high (SCN > low AND SCN <= high).

    Args:
        tables: (owner, name) of those that are wanted; more than TABLES_AT_ONCE: all, to be picked by the reader.
        committed: of COMMITTED_DATA_ONLY: low and high bound COMMIT_SCN, but for DDL.
        pdb: only rows of this pluggable database.
    """
    names = ", ".join(('"' + name + '"') if name == "TIMESTAMP" else name for name in CONTENTS_SCHEMA.names)
    wanted = ", ".join(f"({literal(owner)}, {literal(name)})" for owner, name in tables)
    told = f"OPERATION_CODE IN ({', '.join(map(str, _TOLD))})"
    ddl = "OPERATION_CODE = 5 AND (INFO IS NULL OR INFO NOT LIKE 'INTERNAL DDL%')"
    mine = "1 = 1"
    if len(tables) <= TABLES_AT_ONCE:
        mine = f"((SEG_OWNER, TABLE_NAME) IN ({wanted}) OR TABLE_NAME LIKE 'OBJ#%')"
    bound = "SCN > :low AND SCN <= :high"
    if committed:
        bound = f"((COMMIT_SCN > :low AND COMMIT_SCN <= :high) OR ({bound} AND OPERATION_CODE IN (5, 34)))"
    where = f"{bound} AND (OPERATION_CODE IN ({', '.join(map(str, _ALWAYS))}) OR (({told} OR {ddl}) AND {mine}))"
    if pdb:
        where += f" AND (SRC_CON_NAME = {literal(pdb)} OR OPERATION_CODE IN ({', '.join(map(str, _ALWAYS))}))"
    return f"SELECT {names} FROM V$LOGMNR_CONTENTS WHERE {where}"


# -- the dictionary

TABLES = (
    "SELECT OWNER, TABLE_NAME FROM ALL_TABLES WHERE NESTED = 'NO' AND SECONDARY = 'N' AND TEMPORARY = 'N' "
    "AND DROPPED = 'NO' AND OWNER NOT IN (SELECT USERNAME FROM ALL_USERS WHERE ORACLE_MAINTAINED = 'Y') "
    "AND TABLE_NAME NOT LIKE 'MLOG$%' AND TABLE_NAME NOT LIKE 'HEADRACE$%' ORDER BY 1, 2"
)
"""Rows: owner, name."""

COLUMNS = (
    "SELECT COLUMN_NAME, DATA_TYPE, DATA_PRECISION, DATA_SCALE, DATA_LENGTH, NULLABLE, SEGMENT_COLUMN_ID, "
    "VIRTUAL_COLUMN, HIDDEN_COLUMN FROM ALL_TAB_COLS WHERE OWNER = :owner AND TABLE_NAME = :name "
    "ORDER BY INTERNAL_COLUMN_ID"
)
"""Binds owner, name. Rows: name; type such as NUMBER VARCHAR2 'TIMESTAMP(6) WITH TIME ZONE' 'INTERVAL YEAR(2) TO
MONTH'; precision or NULL; scale or NULL; bytes; 'Y' 'N'; place in the row's segment or NULL; 'YES' 'NO'; 'YES' 'NO'."""

KEY = (
    "SELECT C.COLUMN_NAME FROM ALL_CONSTRAINTS K, ALL_CONS_COLUMNS C WHERE K.OWNER = :owner AND K.TABLE_NAME = :name "
    "AND K.CONSTRAINT_TYPE = 'P' AND C.OWNER = K.OWNER AND C.CONSTRAINT_NAME = K.CONSTRAINT_NAME ORDER BY C.POSITION"
)
"""Binds owner, name. Rows: a column of the primary key, in its order."""

OBJECT = (
    "SELECT OBJECT_ID, DATA_OBJECT_ID, LAST_DDL_TIME FROM ALL_OBJECTS WHERE OWNER = :owner AND OBJECT_NAME = :name "
    "AND OBJECT_TYPE = 'TABLE'"
)
"""Binds owner, name. One row: int, int, datetime; none: no such table."""

TABLE_ROWS = "SELECT NUM_ROWS FROM ALL_TABLES WHERE OWNER = :owner AND TABLE_NAME = :name"
"""Binds owner, name. One row: how many rows it had when its statistics were gathered, NULL where they never were."""

LOG_GROUPS = "SELECT LOG_GROUP_TYPE FROM ALL_LOG_GROUPS WHERE OWNER = :owner AND TABLE_NAME = :name"
"""Binds owner, name. Rows such as 'ALL COLUMN LOGGING' 'PRIMARY KEY LOGGING'."""

PRIVILEGES = "SELECT PRIVILEGE FROM SESSION_PRIVS"
"""Rows: 'LOGMINING', 'SELECT ANY TRANSACTION', 'FLASHBACK ANY TABLE', 'SELECT ANY TABLE', ..."""

ROLES = "SELECT ROLE FROM SESSION_ROLES"
UNDO = "SELECT TO_NUMBER(VALUE) FROM V$PARAMETER WHERE NAME = 'undo_retention'"
"""One row: seconds."""

# -- rows

DATE_TEXT = "SYYYY-MM-DD HH24:MI:SS"
TIMESTAMP_TEXT = "SYYYY-MM-DD HH24:MI:SS.FF9"

PLAIN = "t.{column}"
NUMBER = "TO_CHAR(t.{column}, 'TM9')"
DATE = f"TO_CHAR(t.{{column}}, '{DATE_TEXT}')"
TIMESTAMP = f"TO_CHAR(t.{{column}}, '{TIMESTAMP_TEXT}')"
ZONED = f"TO_CHAR(SYS_EXTRACT_UTC(t.{{column}}), '{TIMESTAMP_TEXT}')"
INTERVAL = "TO_CHAR(t.{column})"
ROWID = "ROWIDTOCHAR(t.{column})"
UROWID = "CAST(t.{column} AS VARCHAR2(4000))"
XML = "XMLSERIALIZE(CONTENT t.{column} AS CLOB)"
JSON = "JSON_SERIALIZE(t.{column} RETURNING CLOB)"
RAW = "RAWTOHEX(t.{column})"
"""How a column is asked for; `column` is its quoted name. PLAIN comes in its Arrow type, all others as text: NUMBER as
'-.5' or '1.2E+70', dates as '-4712-01-01 00:00:00' (a blank for a plus), INTERVAL as '+01-06' or '+01 02:03:04.050000'.
RAW is asked for in keys only; a table without a key has the key ROWID."""

KEY_PLAIN = ":{bind}"
KEY_NUMBER = "TO_NUMBER(:{bind})"
KEY_DATE = f"TO_DATE(:{{bind}}, '{DATE_TEXT}')"
KEY_TIMESTAMP = f"TO_TIMESTAMP(:{{bind}}, '{TIMESTAMP_TEXT}')"
KEY_RAW = "HEXTORAW(:{bind})"
KEY_ROWID = "CHARTOROWID(:{bind})"
"""How a key's text goes back as a bind: all key binds are str. KEY_NUMBER belongs to NUMBER, and so on."""

ROWID_COLUMN = "ROWID"


def rows(
    owner: str, name: str, expressions: Sequence[str], *, scn: bool, where: str = "", order: Sequence[str] = ()
) -> str:
    """Rows of a table as Arrow, in the columns C0, C1, ...

    Args:
        expressions: of the columns, in the forms above, over the alias t.
        scn: as the table was at bind scn.
        where: a condition (`behind`, `among`, `between`), "" for none.
        order: expressions; with them, bind rows_max bounds the rows.
    """
    listed = ", ".join(f"{one} AS C{index}" for index, one in enumerate(expressions))
    flashback = " AS OF SCN :scn" if scn else ""
    text = f"SELECT {listed} FROM {quote(owner)}.{quote(name)}{flashback} t"
    text += f" WHERE {where}" if where else ""
    return text + (f" ORDER BY {', '.join(order)} FETCH FIRST :rows_max ROWS ONLY" if order else "")


def behind(keys: Sequence[tuple[str, str]]) -> str:
    """The condition of rows behind a key: (t."A" > :k0) OR (t."A" = :k0 AND t."B" > :k1); keys: (column, bind)."""
    alternatives = []
    for index, (column, bind) in enumerate(keys):
        same = [f"{one} = {value}" for one, value in keys[:index]]
        alternatives.append("(" + " AND ".join([*same, f"{column} > {bind}"]) + ")")
    return " OR ".join(alternatives)


def among(keys: Sequence[tuple[str, str]], count: int) -> str:
    """The condition of rows of some keys; `bind` of each pair holds a {row} for the key's number: k{row}_0."""
    one = " AND ".join(f"{column} = {bind}" for column, bind in keys)
    return " OR ".join(f"({one.replace('{row}', str(row))})" for row in range(count))


# -- a log that triggers keep, where LogMiner is not allowed


def log_name(object_id: int) -> str:
    """The log of a table, in the schema that the source logs in to."""
    return f"HEADRACE$L{object_id}"


def log_statements(log_owner: str, owner: str, name: str, object_id: int, keys: Sequence[tuple[str, str]]) -> list[str]:
    """What a person runs once for a table: its log, and the trigger that writes the keys of changed rows into it.

    Args:
        keys: (name, type with its length) of the key's columns.
    """
    log = f"{quote(log_owner)}.{quote(log_name(object_id))}"
    columns = ", ".join(f"K{index} {kind} NOT NULL" for index, (_, kind) in enumerate(keys))
    places = ", ".join(f"K{index}" for index in range(len(keys)))

    def entry(row: str) -> str:
        return f"INSERT INTO {log} ({places}) VALUES ({', '.join(f':{row}.{quote(key)}' for key, _ in keys)})"

    moved = " OR ".join(f":OLD.{quote(key)} <> :NEW.{quote(key)}" for key, _ in keys)
    return [
        f"CREATE TABLE {log} (SEQ NUMBER(18) GENERATED ALWAYS AS IDENTITY, {columns})",
        f"GRANT INSERT ON {log} TO {quote(owner)}",
        f"CREATE OR REPLACE TRIGGER {quote(owner)}.{quote(f'HEADRACE$T{object_id}')} AFTER INSERT OR UPDATE OR DELETE "
        f"ON {quote(owner)}.{quote(name)} FOR EACH ROW BEGIN IF NOT DELETING THEN {entry('NEW')}; END IF; "
        f"IF DELETING OR (UPDATING AND ({moved})) THEN {entry('OLD')}; END IF; END;",
    ]


OWN_NAME = "SELECT SYS_CONTEXT('USERENV', 'SESSION_USER') FROM DUAL"
"""One row: the schema that holds the logs."""


def log_entries(log_owner: str, object_id: int) -> str:
    """Numbers of entries, not in the order of commits; bind entries_max. Rows: int."""
    log = f"{quote(log_owner)}.{quote(log_name(object_id))}"
    return f"SELECT SEQ FROM {log} ORDER BY SEQ FETCH FIRST :entries_max ROWS ONLY"


def log_rows(
    log_owner: str, object_id: int, owner: str, name: str, expressions: Sequence[str], keys: Sequence[tuple[str, str]]
) -> str:
    """The rows that entries first..last name as they are now, as Arrow; binds first, last.

    Args:
        expressions: of the table's columns, over t. keys: (name, expression over t) of the key.
    Columns: L0, L1, ...: the key in the log; FOUND: 1, or 0 where there is no such row; C0, C1, ...
    """
    log = f"{quote(log_owner)}.{quote(log_name(object_id))}"
    logged = ", ".join(
        f"{one.replace(PLAIN.format(column=quote(key)), f'l.K{index}')} AS L{index}"
        for index, (key, one) in enumerate(keys)
    )
    listed = ", ".join(f"{one} AS C{index}" for index, one in enumerate(expressions))
    same = " AND ".join(f"t.{quote(key)} = l.K{index}" for index, (key, _) in enumerate(keys))
    places = ", ".join(f"K{index}" for index in range(len(keys)))
    return (
        f"SELECT {logged}, NVL2(t.ROWID, 1, 0) AS FOUND, {listed} "
        f"FROM (SELECT DISTINCT {places} FROM {log} WHERE SEQ BETWEEN :first AND :last) l "
        f"LEFT JOIN {quote(owner)}.{quote(name)} t ON {same}"
    )


def log_delete(log_owner: str, object_id: int) -> str:
    """Forget entries whose rows are durable at the target; executemany with bind seq, then commit."""
    return f"DELETE FROM {quote(log_owner)}.{quote(log_name(object_id))} WHERE SEQ = :seq"


NOW = f"SELECT TO_CHAR(SYSDATE, '{DATE_TEXT}') FROM DUAL"
"""One row: the database's own clock, without a zone, as it is written into DATE columns."""


def newest(owner: str, name: str, column: str, form: str) -> str:
    """The greatest value of a time column as text in that form; one row, NULL where there is none."""
    greatest = form.format(column=quote(column)).replace(PLAIN.format(column=quote(column)), f"MAX(t.{quote(column)})")
    return f"SELECT {greatest} AS C0 FROM {quote(owner)}.{quote(name)} t"


def quote(name: str) -> str:
    """A name in SQL."""
    return '"' + name.replace('"', "") + '"'


def literal(text: str) -> str:
    """A text in SQL."""
    return "'" + text.replace("'", "''") + "'"
