"""What is amiss with a SQL Server source, before it costs a flow its changes; each finding names its T-SQL remedy.

What the login may not see is said so, and not taken for a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding
from connectors.sqlserver import catalog, sql
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import Row, Session
from libcore.errors import ConfigurationError, FatalError

_ORDER = {"error": 0, "warning": 1, "note": 2}
_OLDEST = 13
_AZURE = 5
_RETENTION_MINUTES_MIN = 2 * 24 * 60
_LATENCY_S_MAX = 300
_MINUTES = {"MINUTES": 1, "HOURS": 60, "DAYS": 1440}


def examine(session: Session, config: SqlServerConfig, tables: Sequence[str], spool_bytes: int = 0) -> list[Finding]:
    """All findings, worst first.

    Args:
        tables: what the pipeline reads, as "schema.table".
        spool_bytes: what the pipeline keeps on disk while its target is away; behind it only the source keeps changes.
    """
    found = [*_server(session), *_database(session)]
    if config.mode == "cdc":
        found += [*_capture(session, spool_bytes), *_captured_tables(session, tables)]
    else:
        found += [*_tracking(session, spool_bytes), *_tracked_tables(session, tables)]
    found += _tables(session, tables)
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _seen(session: Session, statement: str, *values: object) -> list[Row] | None:
    """The answer; None where this login may not see it."""
    try:
        return session.ask(statement, *values)
    except (ConfigurationError, FatalError):
        return None


def _server(session: Session) -> Iterator[Finding]:
    version = str(session.ask(sql.SERVER)[0][0])
    if int(version.split(".")[0]) < _OLDEST:
        yield Finding("warning", "server", "SQL Server 2016 or newer", version)


def _database(session: Session) -> Iterator[Finding]:
    name, _, isolation, _ = session.ask(sql.DATABASE)[0]
    if isolation != 1:
        yield Finding(
            "error", f"database {name}", "snapshot isolation, so that reading waits for no writer", "off",
            f"ALTER DATABASE {sql.quote(name)} SET ALLOW_SNAPSHOT_ISOLATION ON",
        )  # fmt: skip


# -- change data capture


def _capture(session: Session, spool_bytes: int) -> Iterator[Finding]:
    name, is_enabled, _, _ = session.ask(sql.DATABASE)[0]
    if not is_enabled:
        yield Finding("error", f"database {name}", "change data capture", "none", "EXEC sys.sp_cdc_enable_db")
        return
    if session.ask(sql.SERVER)[0][1] != _AZURE:
        yield from _agent(session)
    yield from _jobs(session, spool_bytes)
    yield from _scans(session)


def _agent(session: Session) -> Iterator[Finding]:
    states = _seen(session, sql.AGENT)
    if states is None:
        yield Finding(
            "note", "SQL Server Agent", "a login that may see it", "it may not",
            "GRANT VIEW SERVER STATE TO [the login]",
        )  # fmt: skip
    elif not states or states[0][0] != "Running":
        found = states[0][0] if states else "none"
        yield Finding("error", "SQL Server Agent", "Running, as it runs the capture job", found, "start the service")


def _jobs(session: Session, spool_bytes: int) -> Iterator[Finding]:
    jobs = _seen(session, sql.CDC_JOBS)
    if jobs is None:
        yield Finding(
            "note", "capture and cleanup jobs", "a login that may see them", "it may not",
            "USE msdb; GRANT SELECT ON dbo.cdc_jobs TO [the login's user]",
        )  # fmt: skip
        return
    kinds = {kind: retention for kind, retention, _, _ in jobs}
    if "capture" not in kinds:
        yield Finding("error", "capture job", "one", "none", "EXEC sys.sp_cdc_add_job @job_type = N'capture'")
    if "cleanup" not in kinds:
        yield Finding("warning", "cleanup job", "one", "none", "EXEC sys.sp_cdc_add_job @job_type = N'cleanup'")
    retention = kinds.get("cleanup")
    if retention is not None and retention < _RETENTION_MINUTES_MIN:
        yield Finding(
            "warning", "cleanup job", _kept_for(spool_bytes),
            f"{retention} minutes: whoever is stopped for longer reads its tables anew",
            "EXEC sys.sp_cdc_change_job @job_type = N'cleanup', @retention = 4320",
        )  # fmt: skip


def _kept_for(spool_bytes: int) -> str:
    spool = f" (the spool's {spool_bytes >> 20} MB)" if spool_bytes else ""
    return f"at least {_RETENTION_MINUTES_MIN} minutes, behind what is kept on disk here{spool}"


def _scans(session: Session) -> Iterator[Finding]:
    scans = _seen(session, sql.LOG_SCAN)
    if scans is None:
        yield Finding(
            "note", "capture job", "a login that may see its scans", "it may not",
            "GRANT VIEW DATABASE STATE TO [the login's user]",
        )  # fmt: skip
    elif not scans:
        yield Finding(
            "warning", "capture job", "scans of the log since the server's start", "none",
            "EXEC sys.sp_cdc_start_job @job_type = N'capture'",
        )  # fmt: skip
    elif (scans[0][2] or 0) > _LATENCY_S_MAX or scans[0][1]:
        _, errors, latency = scans[0]
        yield Finding(
            "warning", "capture job", f"less than {_LATENCY_S_MAX} s behind, no errors",
            f"{latency} s behind, {errors} errors", "SELECT * FROM sys.dm_cdc_errors",
        )  # fmt: skip


def _captured_tables(session: Session, tables: Sequence[str]) -> Iterator[Finding]:
    if not session.ask(sql.DATABASE)[0][1]:
        return
    try:
        there = catalog.instances(session)
        uncaptured = session.ask(sql.UNCAPTURED_COLUMNS)
    except (ConfigurationError, FatalError) as error:
        yield Finding(
            "error", "change tables", "a login that may read them", str(error),
            "GRANT SELECT ON SCHEMA::cdc TO [the login's user]",
        )  # fmt: skip
        return
    for name in tables:
        instances = there.get(name, [])
        if not instances:
            yield Finding("error", f"table {name}", "a capture instance", "none", catalog.enable_table(name))
            continue
        for instance in instances:
            yield from _may_select(session, f"cdc.{instance.name}_CT")
        missing = [column for _, _, one, column in uncaptured if one == instances[-1].name]
        if missing:
            found = f"{', '.join(missing)} in none: later changes of them are not seen"
            remedy = f"{catalog.enable_table(name)}, @capture_instance = N'{instances[-1].name}_2'"
            if len(instances) > 1:
                old = instances[0].name
                remedy = (
                    f"EXEC sys.sp_cdc_disable_table {catalog.named_table(name)}, @capture_instance = N'{old}'; {remedy}"
                )
            yield Finding("warning", f"table {name}", "all columns in its newest capture instance", found, remedy)


# -- change tracking


def _tracking(session: Session, spool_bytes: int) -> Iterator[Finding]:
    rows = session.ask(sql.CHANGE_TRACKING)
    if not rows:
        yield Finding(
            "error", "database", "change tracking", "none",
            "ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = 7 DAYS, AUTO_CLEANUP = ON)",
        )  # fmt: skip
        return
    _, period, units = rows[0]
    if period * _MINUTES.get(units, 1) < _RETENTION_MINUTES_MIN:
        yield Finding(
            "warning", "change tracking", _kept_for(spool_bytes),
            f"{period} {units}: whoever is stopped for longer reads its tables anew",
            "ALTER DATABASE CURRENT SET CHANGE_TRACKING (CHANGE_RETENTION = 7 DAYS)",
        )  # fmt: skip


def _tracked_tables(session: Session, tables: Sequence[str]) -> Iterator[Finding]:
    for name in tables:
        if session.value(sql.MIN_VALID_VERSION, sql.full_name(name)) is None:
            yield Finding(
                "error", f"table {name}", "change tracking, and the right to see it", "neither, or one of them",
                f"ALTER TABLE {sql.full_name(name)} ENABLE CHANGE_TRACKING; "
                f"GRANT VIEW CHANGE TRACKING ON {sql.full_name(name)} TO [the login's user]",
            )  # fmt: skip


# -- tables


def _tables(session: Session, tables: Sequence[str]) -> Iterator[Finding]:
    for name in tables:
        yield from _may_select(session, name)
        try:
            described = catalog.describe(session, name)
        except ConfigurationError as error:
            yield Finding("error", f"table {name}", "a table that this login may see", str(error))
            continue
        if not described.source.table.key:
            yield Finding(
                "error", f"table {name}", "a primary key, or `key` in the pipeline file", "none",
                f"ALTER TABLE {sql.full_name(name)} ADD PRIMARY KEY (...)",
            )  # fmt: skip
        for one in described.readings.values():
            if one.refused:
                yield Finding("error", f"column {name}.{one.name}", "a type that is read exactly", one.refused)


def _may_select(session: Session, name: str) -> Iterator[Finding]:
    if session.value(sql.MAY_SELECT, sql.full_name(name)) != 1:
        yield Finding(
            "error", f"table {name}", "the right to read it", "no such right",
            f"GRANT SELECT ON {sql.full_name(name)} TO [the login's user]",
        )  # fmt: skip
