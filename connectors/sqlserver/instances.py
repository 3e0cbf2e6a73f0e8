"""Keeps watch over the capture instances: what they still have, and a second one where a table gained a column.

SQL Server allows two instances a table. With `capture_instances = "made"` the second is made when a table has a column
that none captures, and the first is dropped once everything before the second is durable.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime

import structlog

from connectors.sqlserver import catalog, sql
from connectors.sqlserver.catalog import Instance, Wanted
from connectors.sqlserver.config import SqlServerConfig
from connectors.sqlserver.session import Row, Session
from connectors.sqlserver.state import NOTHING, State, lsn_behind

_LOOK_S = 10.0
_NAME_MAX = 100
_log = structlog.get_logger()


class InstanceKeeper:
    """The capture instances of a pipeline's tables. Used by one thread, but for `durable`."""

    def __init__(self, config: SqlServerConfig, wanted: Mapping[str, Wanted]) -> None:
        self._config, self._wanted = config, wanted
        self._durable: State | None = None
        self._looked_at = 0.0
        self._told: set[tuple[str, str]] = set()

    def durable(self, state: State) -> None:
        """Everything before that state is durable."""
        self._durable = state

    def look(self, session: Session) -> dict[str, list[Instance]]:
        """The instances by table, older ones first; makes and drops some where that is its task."""
        found = catalog.instances(session)
        if time.monotonic() - self._looked_at >= min(_LOOK_S, self._config.poll_s * 20):
            self._looked_at = time.monotonic()
            changed = [self._renewed(session, name, found.get(name, [])) for name in self._uncaptured(session, found)]
            changed += [self._dropped(name, found.get(name, [])) for name in self._wanted]
            if any(changed):
                found = catalog.instances(session)
        return found

    def kept(self, session: Session, used: Mapping[str, Instance], state: State, lsn: bytes) -> bool:
        """Whether the instances still have every change behind what was read; asked after they were read."""
        there = {name: min_lsn for name, min_lsn in session.ask(sql.MIN_LSNS)}
        for name, instance in used.items():
            read = state.read(name)
            position = lsn if read is None else max(lsn, read.since)
            if instance.name not in there or there[instance.name] > lsn_behind(position):
                return False
        return True

    def utc(self, session: Session, commits: Sequence[Row]) -> dict[bytes, int]:
        """LSN -> microseconds since 1970 of the commits, which the server tells in its own zone."""
        if not commits:
            return {}
        ahead_us = int(session.value(sql.ZONE_MINUTES)) * 60_000_000
        return {lsn: _microseconds(text) - ahead_us for lsn, text in commits if text is not None}

    def _uncaptured(self, session: Session, found: Mapping[str, Sequence[Instance]]) -> list[str]:
        """Tables with a column, wanted or new, that their newest instance does not capture."""
        names = []
        for schema, table, instance, column in session.ask(sql.UNCAPTURED_COLUMNS):
            name = f"{schema}.{table}"
            wanted = self._wanted.get(name)
            if wanted is None or instance != found[name][-1].name:
                continue
            is_known = any(one.name == column for one in wanted.table.columns)
            if not is_known and wanted.on_new_column != "add":
                continue
            if (name, column) not in self._told:
                self._told.add((name, column))
                _log.warning("a column is not captured", table=name, column=column, instance=instance)
            if name not in names:
                names.append(name)
        return names

    def _renewed(self, session: Session, name: str, there: Sequence[Instance]) -> bool:
        """Make a second instance; whether it was made."""
        if self._config.capture_instances != "made" or len(there) != 1:
            return False
        schema, _, table = name.partition(".")
        taken = {instance for (instance,) in session.ask(sql.INSTANCE_NAMES)}
        number = 2
        while (instance := f"{f'{schema}_{table}'[: _NAME_MAX - 8]}_{number}") in taken:
            number += 1
        with closing(Session(self._config, snapshot=False)) as writer:
            writer.run(sql.ENABLE_TABLE, schema, table, instance, there[0].role)
        _log.info("a capture instance was made", table=name, instance=instance)
        return True

    def _dropped(self, name: str, there: Sequence[Instance]) -> bool:
        """Drop the first of two instances where all that is durable lies behind the second's begin; whether it was."""
        state = self._durable
        if self._config.capture_instances != "made" or len(there) != 2 or state is None or state.place is None:
            return False
        if there[1].min_lsn == NOTHING or lsn_behind(state.place[0]) <= there[1].min_lsn:
            return False  # or the capture job has not come to the second yet
        schema, _, table = name.partition(".")
        with closing(Session(self._config, snapshot=False)) as writer:
            writer.run(sql.DISABLE_TABLE, schema, table, there[0].name)
        _log.info("a capture instance was dropped", table=name, instance=there[0].name)
        return True


def _microseconds(text: str) -> int:
    delta = datetime.fromisoformat(text).replace(tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds
