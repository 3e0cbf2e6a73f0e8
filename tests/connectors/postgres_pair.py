"""A failover pair: a real primary, and a physical standby made of it by pg_basebackup, which can be promoted."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psycopg

from control.embedded import EmbeddedPostgres

STANDBY = "standby_1"
_SECONDS = 30.0


class Standby(EmbeddedPostgres):
    """A standby that streams from a primary, through a physical slot, and keeps its failover slots in sync."""

    def __init__(self, primary: EmbeddedPostgres) -> None:
        super().__init__(settings={"fsync": False, "sync_replication_slots": True, "hot_standby_feedback": True})
        self._primary = primary

    def _initdb(self) -> None:
        """A copy of the primary; -R writes primary_conninfo with its database, and primary_slot_name."""
        words = ["-D", str(self.data), "-d", self._primary.dsn(), "-C", "-S", STANDBY, "-R", "-c", "fast", "-N"]
        self._run("pg_basebackup", *words)

    def promote(self) -> None:
        """Make it the primary."""
        self._run("pg_ctl", "promote", "-D", str(self.data), "-w")

    def _run(self, program: str, *words: str) -> None:
        command = self._as_user([self._program(program), *words])
        subprocess.run(command, check=True, capture_output=True, cwd=self.data, env=self._environment(), timeout=60)


class Pair:
    """Primary and standby. `synchronized`: logical slots are held back until the standby has what they would send."""

    def __init__(self, *, synchronized: bool = True) -> None:
        settings: dict[str, str | int | bool] = {"fsync": False}
        if synchronized:
            settings["synchronized_standby_slots"] = STANDBY
        self.primary = EmbeddedPostgres(settings=settings)
        self.standby = Standby(self.primary)

    def dsn(self, database: str = "postgres") -> str:
        """Both of them: whoever is the primary answers."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        return f"postgresql://postgres@{hosts}/{database}"

    def until(self, server: EmbeddedPostgres, question: str, answer: str = "t") -> None:
        """Wait until a server answers so."""
        waited(lambda: server.execute(question) == answer, question)

    def slot_synced(self, slot: str, meanwhile: Callable[[], Any] = bool) -> None:
        """Wait until the standby has the slot for good, which takes a flow that moves it on: `meanwhile`, or another.

        The primary notes its open transactions in the log every 15 s; here it does so at once.
        """

        def there() -> bool:
            meanwhile()
            self.primary.execute("SELECT pg_log_standby_snapshot()")
            rows = self.standby.execute(
                f"SELECT synced AND NOT temporary FROM pg_replication_slots WHERE slot_name = '{slot}'"
            )
            return rows == "t"

        waited(there, f"slot {slot} on the standby")

    def fail_over(self) -> None:
        """Kill the primary with -9; the standby takes over."""
        self.primary.kill()
        self.standby.promote()

    def __enter__(self) -> Self:
        try:
            self.primary.start()
            self.standby.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.standby.close()
        self.primary.close()


def tables(dsn: str, rows: int) -> None:
    """Tables `items`, with a key, and `log`, without one."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE items (id int PRIMARY KEY, n int)")
        connection.execute("INSERT INTO items SELECT g, g FROM generate_series(1, %s) g", (rows,))
        connection.execute("CREATE TABLE log (a int, b text)")
        connection.execute("ALTER TABLE log REPLICA IDENTITY FULL")


def waited(reached: Callable[[], Any], what: str) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + _SECONDS
    while not reached():
        assert time.monotonic() < deadline, f"waited for: {what}"
        time.sleep(0.05)
