"""What `headrace doctor` says of an Oracle database: each finding with the statement that mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal

from connectors.base.database import Finding
from connectors.oracle import sql
from connectors.oracle.catalog import OracleTable
from connectors.oracle.config import OracleConfig
from connectors.oracle.session import Refused, Session
from libcore.errors import ConfigurationError

_PRIVILEGES = {
    "LOGMINING": "LogMiner",
    "SELECT ANY TRANSACTION": "V$LOGMNR_CONTENTS",
    "FLASHBACK ANY TABLE": "snapshots as of an SCN",
    "SELECT ANY TABLE": "the tables, unless each is granted by itself",
}
_ROLES = {"SELECT_CATALOG_ROLE": "the V$ views", "EXECUTE_CATALOG_ROLE": "DBMS_LOGMNR"}
_UNDO_S_MIN = 900
_ORDER = ("error", "warning", "note")


def examine(session: Session, config: OracleConfig, tables: Sequence[OracleTable]) -> list[Finding]:
    """What is amiss, worst first."""
    checks: list[Callable[[], Iterator[Finding]]] = [lambda: _tables(session, config, tables)]
    if config.mode.startswith("logminer"):
        checks += [lambda: _database(session), lambda: _grants(session, config), lambda: _logs(session)]
        checks.append(lambda: _container(session, config))
    checks.append(lambda: _undo(session))
    found: list[Finding] = []
    for check in checks:
        try:
            found += check()
        except (Refused, ConfigurationError) as error:
            found.append(Finding("error", "grants", "views that can be read", str(error), _grant(config)))
    return sorted(found, key=lambda finding: _ORDER.index(finding.severity))


def _grant(config: OracleConfig) -> str:
    container = " CONTAINER=ALL" if config.pdb else ""
    names = ", ".join(("CREATE SESSION", *(["SET CONTAINER"] if config.pdb else []), *_PRIVILEGES, *_ROLES))
    return f"GRANT {names} TO <login>{container}; GRANT EXECUTE ON SYS.DBMS_LOGMNR TO <login>{container}"


def _database(session: Session) -> Iterator[Finding]:
    _, _, _, mode, supplemental, _ = session.one(sql.DATABASE)
    if mode != "ARCHIVELOG":
        remedy = "SHUTDOWN IMMEDIATE; STARTUP MOUNT; ALTER DATABASE ARCHIVELOG; ALTER DATABASE OPEN"
        yield Finding("error", "log mode", "ARCHIVELOG: else redo goes when a log is written over", mode, remedy)
    if supplemental == "NO":
        expected = "minimal supplemental logging: else LogMiner cannot put rows together"
        yield Finding("error", "supplemental logging", expected, "none", "ALTER DATABASE ADD SUPPLEMENTAL LOG DATA")


def _container(session: Session, config: OracleConfig) -> Iterator[Finding]:
    has_containers, name = session.one(sql.CONTAINER)
    if has_containers == "YES" and not config.pdb:
        remedy = "log in as a user of the root (C##...), and set pdb to the pluggable database's name"
        yield Finding("error", "container", "LogMiner in the root, the tables in a `pdb`", str(name), remedy)


def _grants(session: Session, config: OracleConfig) -> Iterator[Finding]:
    has = {row[0] for row in (*session.all(sql.PRIVILEGES), *session.all(sql.ROLES))}
    if "DBA" in has:
        return
    container = " CONTAINER=ALL" if config.pdb else ""
    for name, purpose in (_PRIVILEGES | _ROLES).items():
        if name not in has:
            # what a role or ANY brings may be granted piece by piece
            severity: Literal["error", "warning"] = "warning" if name in (*_ROLES, "SELECT ANY TABLE") else "error"
            remedy = f"GRANT {name} TO <login>{container}"
            yield Finding(severity, f"grant {name}", f"it, for {purpose}", "none", remedy)


def _logs(session: Session) -> Iterator[Finding]:
    """How far back redo can be read, which is how long the flow may stand still."""
    oldest = session.one(sql.OLDEST_LOG)[0]
    current = session.one(sql.CURRENT_SCN)[0]
    open_from = session.one(sql.OLDEST_OPEN)[0]
    if oldest is not None and open_from is not None and open_from < oldest:
        yield Finding(
            "error",
            "redo logs",
            "those since the oldest open transaction began",
            f"redo from SCN {oldest} on, a transaction open since SCN {open_from}",
            "keep archived logs for longer than transactions last (RMAN: CONFIGURE ARCHIVELOG DELETION POLICY)",
        )
    yield Finding(
        "note",
        "redo logs",
        "archived logs kept for longer than the flow may stand still",
        f"redo from SCN {oldest} up to {current}",
    )


def _tables(session: Session, config: OracleConfig, tables: Sequence[OracleTable]) -> Iterator[Finding]:
    is_logminer = config.mode.startswith("logminer")
    all_logged = is_logminer and session.one(sql.DATABASE)[5] == "YES"
    for table in tables:
        named = f"{sql.quote(table.owner)}.{sql.quote(table.name)}"
        if is_logminer and not all_logged:
            yield from _supplemental(session, table, named)
        if config.mode == "timestamp":
            expected = f"rows that set {config.timestamp_column}, as no other change and no delete is seen"
            yield Finding("note", f"table {table.called}", expected, "not looked at")
        if not table.key:
            expected = "a primary key: else a change is matched by the whole row"
            remedy = "name one by `key` in the pipeline file, or ALTER TABLE ... ADD PRIMARY KEY"
            yield Finding("note", f"table {table.called}", expected, "none", remedy)
        for name, why in table.left_out:
            yield Finding("note", f"table {table.called}", f"column {name} to be readable", why)


def _supplemental(session: Session, table: OracleTable, named: str) -> Iterator[Finding]:
    groups = {row[0] for row in session.all(sql.LOG_GROUPS, owner=table.owner, name=table.name)}
    if "ALL COLUMN LOGGING" in groups:
        return
    remedy = f"ALTER TABLE {named} ADD SUPPLEMENTAL LOG DATA (ALL) COLUMNS"
    if "PRIMARY KEY LOGGING" in groups and table.key:
        expected = "all columns logged: else an update brings the changed ones only, and a moved row is read again"
        yield Finding("note", f"table {table.called}", expected, "the key's", remedy)
        return
    expected = "supplemental logging of its columns: else changes come without their key"
    yield Finding("error", f"table {table.called}", expected, "none", remedy)


def _undo(session: Session) -> Iterator[Finding]:
    seconds = int(session.one(sql.UNDO)[0])
    if seconds < _UNDO_S_MIN:
        yield Finding(
            "warning",
            "undo_retention",
            f"at least {_UNDO_S_MIN} s, and as long as one chunk of the snapshot takes",
            f"{seconds} s",
            f"ALTER SYSTEM SET UNDO_RETENTION = {_UNDO_S_MIN}",
        )
