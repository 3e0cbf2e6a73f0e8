"""Watches how much log a slot keeps at its server, and does what the file says above a bound.

It does so from a thread and a session of its own, because it must work while the flow itself stands still: a target
that is away and a full spool are what makes a slot keep log.

A slot that was dropped here leaves DIRECTORY/run/slot-NAME.json, which says so to `headrace status`, and to every later
start until the position is forgotten as well.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import structlog

from connectors.base import durable, json_file
from connectors.base.metrics import RETAINED_BYTES
from connectors.postgres import slot as slots
from connectors.postgres.session import Connection
from connectors.postgres.source_config import PostgresSourceConfig
from connectors.postgres.source_session import connect
from libcore.errors import FatalError, HeadraceError

WATCH_S = 1.0
_KEPT = """
SELECT pg_wal_lsn_diff(
    CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint
FROM pg_replication_slots WHERE slot_name = %s
"""
_log = structlog.get_logger()


class SlotGuard:
    """Watches one slot, from `start` until `close`.

    Args:
        config: with the slot's name. directory: the pipeline's state directory; None: a drop leaves no note.
        partition: the slot's name in metrics.
    """

    def __init__(self, config: PostgresSourceConfig, directory: Path | None, partition: str) -> None:
        self._config, self._directory = config, directory
        self._slot, self._bounds = str(config.slot), config.guardian
        self._kept = RETAINED_BYTES.labels(partition)
        self._closed = threading.Event()
        self._above = False
        self._thread = threading.Thread(target=self._watch, name=f"watch {self._slot}", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def close(self) -> None:
        """End; a drop that has begun is finished first."""
        self._closed.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(10.0)

    def _watch(self) -> None:
        connection: Connection | None = None
        while not self._closed.wait(WATCH_S):
            try:
                if connection is None or connection.closed:
                    connection = connect(self._config, f"{self._slot} watch")
                if self._look(connection):
                    return
            except (psycopg.Error, HeadraceError, OSError) as error:
                # the stream's own session says loudly what is wrong with the server; a full disk takes no note
                _log.info("slot not watched", slot=self._slot, error=str(error))
                if connection is not None:
                    connection.close()
        if connection is not None:
            connection.close()

    def _look(self, connection: Connection) -> bool:
        """Look once; True where the slot was dropped."""
        row = connection.execute(_KEPT, (self._slot,)).fetchone()
        kept = 0 if row is None or row[0] is None else max(0, int(row[0]))
        self._kept.set(kept)
        bound = self._bounds.retained_bytes_max
        above = bool(bound) and kept > bound
        if above and self._bounds.on_retained == "drop_slot":
            self._drop(connection, kept)
            return True
        if above and not self._above:
            _log.warning(
                "the source keeps more log than retained_bytes_max; the flow goes on and waits",
                slot=self._slot, retained_bytes=kept, retained_bytes_max=bound, on_retained="wait",
            )  # fmt: skip
        elif self._above and not above:
            _log.info("the source keeps no more log than it may", slot=self._slot, retained_bytes=kept)
        self._above = above
        return False

    def _drop(self, connection: Connection, kept: int) -> None:
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        text = (
            f"slot {self._slot} was dropped at {moment}: the source kept {kept:,} bytes of log for it, more than "
            f"retained_bytes_max = {self._bounds.retained_bytes_max:,}, and on_retained is drop_slot. What the source "
            "changed since then never comes; `headrace source drop FILE` forgets the position, so that the next start "
            "takes a new snapshot"
        )
        # before the drop: whoever meets a slot that is gone shall find the reason
        if (path := note_path(self._directory, self._slot)) is not None:
            durable.make_directory(path.parent)
            json_file.write(path, {"slot": self._slot, "at": time.time(), "error": text}, durably=True)
        _log.error("slot dropped", slot=self._slot, retained_bytes=kept, error=text)
        remove(connection, self._slot)
        self._kept.set(0)
        connection.close()


def note_path(directory: Path | None, slot: str) -> Path | None:
    """Where it stands that a slot was dropped."""
    return None if directory is None else directory / "run" / f"slot-{slot}.json"


def remove(connection: Connection, slot: str) -> None:
    """Drop a slot, and end the session that reads it. Raises TransientError where it stays in use."""
    found = slots.find(connection, slot)
    if found is not None and found.active_pid is not None:
        connection.execute("SELECT pg_terminate_backend(%s)", (found.active_pid,))
    for _ in slots.drop(connection, slot):
        if (found := slots.find(connection, slot)) is not None and found.active_pid is not None:
            connection.execute("SELECT pg_terminate_backend(%s)", (found.active_pid,))


def refuse_dropped(connection: Connection, directory: Path | None, slot: str) -> None:
    """Raises FatalError where the slot was dropped for what it kept; a drop that was cut short is finished."""
    path = note_path(directory, slot)
    if path is None or not path.exists():
        return
    try:
        text = str(json_file.read(path, None)["error"])
    except ValueError:  # the disk was full, or the power failed, while it was written: the drop was to come behind it
        path.unlink()
        return
    remove(connection, slot)
    raise FatalError(f"source.postgres: {text}")


def forget_dropped(directory: Path | None, slot: str) -> None:
    """A new slot begins."""
    if (path := note_path(directory, slot)) is not None:
        path.unlink(missing_ok=True)
