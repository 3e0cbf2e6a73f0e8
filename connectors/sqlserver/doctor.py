"""What is amiss with a SQL Server source, before it costs a flow its changes; each finding names its T-SQL remedy.

What the login may not see is said so, and not taken for a fault.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from connectors.base.database import Finding, SourceTable
from connectors.sqlserver import sql
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.doctor_tables import captured_tables, key_findings, tracked_tables
from connectors.sqlserver.session import Row, Session
from libcore.errors import ConfigurationError, FatalError

_ORDER = {"error": 0, "warning": 1, "note": 2}
_OLDEST = 13
_AZURE = 5
_STILL_S_MAX = 600  # an idle capture job sets a mark every 300 s
_LATENCY_S_MAX = 300
_MINUTES = {"MINUTES": 1, "HOURS": 60, "DAYS": 1440}
_START = "EXEC sys.sp_cdc_start_job @job_type = N'capture'"


def examine(
    session: Session, config: SqlServerConfig, tables: Sequence[SourceTable], spool_bytes: int = 0
) -> list[Finding]:
    """All findings, worst first.

    Args:
        tables: what the pipeline reads, as the pipeline file wants it.
        spool_bytes: what the pipeline keeps on disk while its target is away; behind it only the source keeps changes.
    """
    version, edition, login, user = session.ask(sql.SERVER)[0]
    reader = sql.quote(user)
    found = [*_server(str(version)), *_database(session)]
    if config.mode == "cdc":
        if session.ask(sql.DATABASE)[0][1]:
            if edition != _AZURE:
                found += _agent(session, sql.quote(login))
            found += _jobs(session, config, spool_bytes, login)
            found += [*_standing_still(session), *_scans(session, reader), *_owner(session, config, reader)]
            found += captured_tables(session, tables, reader)
        else:
            found.append(Finding("error", "database", "change data capture", "none", "EXEC sys.sp_cdc_enable_db"))
    else:
        found += [*_tracking(session, config, spool_bytes), *tracked_tables(session, tables, reader)]
    found += key_findings(session, tables, reader)
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _seen(session: Session, statement: str) -> list[Row] | None:
    """The answer; None where this login may not see it."""
    try:
        return session.ask(statement)
    except (ConfigurationError, FatalError):
        return None


def _server(version: str) -> Iterator[Finding]:
    if int(version.split(".")[0]) < _OLDEST:
        yield Finding("warning", "server", "SQL Server 2016 or newer", version)


def _database(session: Session) -> Iterator[Finding]:
    name, _, isolation, _ = session.ask(sql.DATABASE)[0]
    if isolation != 1:
        yield Finding(
            "error", f"database {name}", "snapshot isolation, so that reading waits for no writer",
            "on its way, once open transactions have ended" if isolation == 3 else "off",
            f"ALTER DATABASE {sql.quote(name)} SET ALLOW_SNAPSHOT_ISOLATION ON",
        )  # fmt: skip


# -- change data capture


def _agent(session: Session, login: str) -> Iterator[Finding]:
    states = _seen(session, sql.AGENT)
    if states is None:
        yield Finding(
            "note", "SQL Server Agent", "a login that may see it", "it may not",
            f"USE master; GRANT VIEW SERVER STATE TO {login}",
        )  # fmt: skip
    elif not states or states[0][0] != "Running":
        yield Finding(
            "error", "SQL Server Agent", "Running, as it runs the capture job", states[0][0] if states else "none",
            "EXEC master.dbo.xp_servicecontrol N'START', N'SQLServerAGENT'; -- or start the service",
        )  # fmt: skip


def _jobs(session: Session, config: SqlServerConfig, spool_bytes: int, login: str) -> Iterator[Finding]:
    jobs = _seen(session, sql.CDC_JOBS)
    if jobs is None:
        yield Finding(
            "note", "capture and cleanup jobs", "a login that may see them", "it may not",
            f"USE msdb; IF USER_ID({sql.literal(login)}) IS NULL CREATE USER {sql.quote(login)} FOR LOGIN "
            f"{sql.quote(login)}; GRANT SELECT ON dbo.cdc_jobs TO {sql.quote(login)}",
        )  # fmt: skip
        return
    kinds = {kind: retention for kind, retention, _, _ in jobs}
    for kind in ("capture", "cleanup"):
        if kind not in kinds:
            yield Finding(
                "error" if kind == "capture" else "warning", f"{kind} job", "one", "none",
                f"EXEC sys.sp_cdc_add_job @job_type = N'{kind}'",
            )  # fmt: skip
    retention, hours = kinds.get("cleanup"), config.guardian.stopped_hours_max
    if retention is not None and retention < hours * 60:
        yield Finding(
            "warning", "cleanup job", _kept_for(hours, spool_bytes),
            f"{retention} minutes: whoever is stopped for longer reads its tables anew",
            f"EXEC sys.sp_cdc_change_job @job_type = N'cleanup', @retention = {hours * 90}",
        )  # fmt: skip


def _kept_for(hours: int, spool_bytes: int) -> str:
    spool = f", and while the target is away, once the spool's {spool_bytes >> 20} MB are full" if spool_bytes else ""
    return f"changes kept for at least {hours} hours (stopped_hours_max), for a flow that is stopped{spool}"


def _standing_still(session: Session) -> Iterator[Finding]:
    ages = _seen(session, sql.CAPTURED_AGE)
    if ages is None:  # captured_tables says why
        return
    (age,) = ages[0]
    if age is None or age > _STILL_S_MAX:
        found = "nothing since it was enabled" if age is None else f"nothing for {age} s"
        yield Finding(
            "warning", "capture job", "something captured in the last ten minutes, as it marks idle ones", found, _START
        )


def _scans(session: Session, user: str) -> Iterator[Finding]:
    scans = _seen(session, sql.LOG_SCAN)
    if scans is None:
        yield Finding(
            "note", "capture job", "a login that may see its scans", "it may not",
            f"GRANT VIEW DATABASE STATE TO {user}",
        )  # fmt: skip
    elif not scans:
        yield Finding("warning", "capture job", "scans of the log since the server's start", "none", _START)
    elif (scans[0][1] or 0) > _LATENCY_S_MAX or scans[0][0]:
        errors, latency = scans[0]
        yield Finding(
            "warning", "capture job", f"at most {_LATENCY_S_MAX} s behind, no errors",
            f"{latency} s behind, {errors} errors", "SELECT * FROM sys.dm_cdc_errors",
        )  # fmt: skip


def _owner(session: Session, config: SqlServerConfig, user: str) -> Iterator[Finding]:
    if config.capture_instances == "made" and session.value(sql.IS_OWNER) != 1:
        yield Finding(
            "error", 'capture_instances = "made"', "a login that may make them", "it is not in db_owner",
            f'ALTER ROLE [db_owner] ADD MEMBER {user}; -- or capture_instances = "given"',
        )  # fmt: skip


# -- change tracking


def _tracking(session: Session, config: SqlServerConfig, spool_bytes: int) -> Iterator[Finding]:
    rows, hours = session.ask(sql.CHANGE_TRACKING), config.guardian.stopped_hours_max
    days = hours // 16 + 1
    if not rows:
        yield Finding(
            "error", "database", "change tracking", "none",
            f"ALTER DATABASE CURRENT SET CHANGE_TRACKING = ON (CHANGE_RETENTION = {days} DAYS, AUTO_CLEANUP = ON)",
        )  # fmt: skip
        return
    is_cleaned, period, units = rows[0]
    if is_cleaned and period * _MINUTES[units] < hours * 60:
        yield Finding(
            "warning", "change tracking", _kept_for(hours, spool_bytes),
            f"{period} {units}: whoever is stopped for longer reads its tables anew",
            f"ALTER DATABASE CURRENT SET CHANGE_TRACKING (CHANGE_RETENTION = {days} DAYS)",
        )  # fmt: skip
