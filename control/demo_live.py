"""The demo's second half: a PostgreSQL that plays the ERP, with a live writer, replicated straight into a database.

Its servers, its pipeline and the position lie in a directory that an interrupted run leaves, so that the next one goes
on; a finished run removes it.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from control import demo_writer, runner
from control.embedded import EmbeddedPostgres
from control.pipeline import start_plan
from control.progress import Progress, summary_text
from control.tied import command
from libcore.errors import ConfigurationError, FatalError

SECONDS = 15.0
_ERP, _TARGET = "HEADRACE_DEMO_ERP", "HEADRACE_DEMO_DSN"
_NAME = "live"
_MARK = "filled"  # the ERP is there whole
_LOCK = "lock"
_SETTINGS: Mapping[str, str | int | bool] = {"shared_buffers": "128MB", "max_wal_size": "1GB"}
_FILE = f"""\
name = "{_NAME}"

[source.postgres]
dsn = "env:{_ERP}"

[tables.customers]
topic = "public.customers"
[tables.orders]
topic = "public.orders"
write = true
[tables.items]
topic = "public.items"
write = true

[[step]]
join = "items"
with = "orders"
on = {{ order_id = "id" }}
take = {{ customer_id = "customer_id", status = "order_status" }}
as = "order_lines"

[sink.postgres]
dsn = "env:{_TARGET}"
"""
_ITEMS = "id, order_id, product, quantity, price, note"
# target table -> the same rows, asked of the ERP
_TRUTH = {
    "customers": "SELECT id, name, city, credit FROM customers",
    "orders": "SELECT id, customer_id, status, ordered_at FROM orders",
    "items": f"SELECT {_ITEMS} FROM items",
    "order_lines": "SELECT i.id, order_id, product, quantity, price, note, customer_id, status "
    "FROM items i JOIN orders o ON o.id = order_id",
}
_COLUMNS = {
    "customers": "id, name, city, credit",
    "orders": "id, customer_id, status, ordered_at",
    "items": _ITEMS,
    "order_lines": f"{_ITEMS}, customer_id, order_status",
}


@dataclass(frozen=True, slots=True)
class Options:
    """How the live half runs.

    Args:
        items: rows of the ERP's largest table at the beginning. processes: worker processes.
        rate: the writer's transactions a second. seconds: how long it writes; None: until Ctrl-C.
        directory: what an interrupted run leaves, and goes on from. again: how to type that.
    """

    items: int
    processes: int
    rate: float = 200.0
    seconds: float | None = SECONDS
    directory: Path | None = None
    again: str = "headrace demo"

    @property
    def place(self) -> Path:
        """The directory."""
        return self.directory or Path(tempfile.gettempdir()) / f"headrace-demo-{os.getuid()}"


def interrupted(options: Options) -> bool:
    """Whether a former run left something to go on from."""
    return (options.place / _MARK).exists()


def forget(options: Options) -> None:
    """Remove what a former run left. Raises ConfigurationError where the directory is not a demo's."""
    if options.place.exists():
        _check(options.place)
        with _only_one(options.place):
            _empty(options.place)


def run(options: Options, console: Console) -> bool | None:
    """Replicate the ERP while it is written to, then compare.

    Returns: whether every row is equal; None where Ctrl-C ended it before.
    """
    options.place.mkdir(parents=True, exist_ok=True, mode=0o711)
    _check(options.place)
    with _only_one(options.place):
        return _run(options, console)


def _run(options: Options, console: Console) -> bool | None:
    live = _Live(options, console)
    with live.servers():
        result, stopped = live.follow()
        if result.exit_code != 0:
            raise FatalError(f"the demo's pipeline {summary_text(result)}")
        if stopped and options.seconds is not None:
            live.keep()
            return None
        try:
            equal = live.proven()
        except KeyboardInterrupt:
            live.keep()
            return None
        if stopped:
            live.keep()
    if not stopped:
        shutil.rmtree(options.place)
    return equal


class _Live:
    def __init__(self, options: Options, console: Console) -> None:
        self._options, self._console, self._place = options, console, options.place
        self._resumed = interrupted(options)
        if not self._resumed:
            _empty(self._place)
        self._postgres = EmbeddedPostgres(self._place / "postgres", settings=_SETTINGS)
        self._environment = {
            _ERP: self._postgres.dsn("erp"),
            _TARGET: self._postgres.dsn("live"),
        }
        self._file = self._place / f"{_NAME}.toml"
        self._events, self._seconds = 0, 0.0
        self._written: dict[str, int] = {}

    @contextmanager
    def servers(self) -> Iterator[None]:
        """The ERP and the target, started."""
        with self._postgres:
            if self._resumed:
                where = "; ".join(_positions(self._place)) or "from the beginning: nothing was durable yet"
                self._say(f"\nresumed: what was interrupted goes on from the kept position ({where})")
            else:
                self._fill()
            yield

    def _fill(self) -> None:
        items = self._options.items
        orders, customers = max(1, items // 4), max(1, items // 40)
        self._say("\na live ERP: a PostgreSQL with customers, orders and items, read directly, without a broker ...")
        self._postgres.create_database("erp")
        self._postgres.create_database("live")
        rows = demo_writer.ROWS.format(items=items, orders=orders, customers=customers)
        self._postgres.execute(demo_writer.TABLES + rows, "erp")
        self._file.write_text(_FILE, "utf-8")
        (self._place / _MARK).touch()
        self._say(f"  {customers + orders + items:,} rows in {self._postgres.dsn('erp')}")

    def follow(self) -> tuple[runner.Result, bool]:
        """Run the pipeline beside the writer; (how it ended, whether by Ctrl-C)."""
        seconds, stopping, timed = self._options.seconds, threading.Event(), threading.Event()

        def end() -> None:
            timed.set()
            stopping.set()

        until = "until Ctrl-C" if seconds is None else f"for {seconds:.0f} s"
        self._say(f"  headrace run {self._file} --processes {self._options.processes}, {until}, beside a writer of")
        self._say(f"  {self._options.rate:.0f} transactions/s: inserts, updates, deletes, keys that change")
        with self._writer() as writer:
            timer = threading.Timer(seconds, end) if seconds is not None else None
            if timer is not None:
                timer.daemon = True
                timer.start()
            result = self._run(until_end=False, stopping=stopping)
            if timer is not None:
                timer.cancel()
            writer.terminate()
            counted = writer.communicate(timeout=30)[0]
        self._written = json.loads(counted) if counted.strip() else {}
        return result, not timed.is_set()

    @contextmanager
    def _writer(self) -> Iterator[subprocess.Popen[str]]:
        numbers = [str(self._options.rate), str(max(1, self._options.items // 4))]
        arguments = [sys.executable, "-m", "control.demo_writer", *numbers, *self._postgres.psql("erp")]
        # a session of its own: Ctrl-C is the demo's, which ends the writer in its own time
        writer = subprocess.Popen(
            command(arguments),
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            yield writer
        finally:
            writer.kill()
            writer.wait()

    def _run(self, *, until_end: bool, stopping: threading.Event) -> runner.Result:
        plan = start_plan(self._file, until_end=until_end)
        with Progress(self._console) as progress:
            result = runner.run(
                plan.flow,
                plan.state_dir,
                self._options.processes,
                environment=self._environment,
                display=progress,
                stopping=stopping,
            )
        self._events += result.totals.events
        self._seconds += result.seconds
        self._say(f"  {summary_text(result)}")
        return result

    def proven(self) -> bool:
        """Bring what is still on its way, and compare every row; prints both."""
        for kind, count in sorted(self._written.items()):
            self._say(f"    {count:,} {kind}")
        self._say("  the writer has ended; what is still on its way:")
        stopping = threading.Event()
        result = self._run(until_end=True, stopping=stopping)
        if stopping.is_set():
            raise KeyboardInterrupt
        if result.exit_code != 0:
            raise FatalError(f"the demo's pipeline {summary_text(result)}")
        lines = Table("table", "rows expected", "found", "missing", "extra", box=None)
        equal = True
        for table, truth in _TRUTH.items():
            wanted, found = self._rows("erp", truth), self._rows("live", f"SELECT {_COLUMNS[table]} FROM {table}")
            missing, extra = len(wanted - found), len(found - wanted)
            equal = equal and not missing and not extra
            lines.add_row(table, *(f"{number:,}" for number in (len(wanted), len(found), missing, extra)))
        self._say("  the target, row by row and value by value, beside the ERP itself:")
        self._console.print(lines)
        if equal:
            self._say(f"  equal; {self._events / self._seconds:,.0f} rows/s from the ERP, starts and waiting included")
        return equal

    def _rows(self, database: str, query: str) -> set[str]:
        """Rows as text, through psql, with no code of the product in between; every table has a key."""
        return set(self._postgres.execute(f"COPY ({query}) TO STDOUT", database).splitlines())

    def keep(self) -> None:
        """Say how to go on."""
        self._say(f"\nstopped. The ERP, the target and the position are kept in {self._place}.")
        self._say(f"  {self._options.again}          goes on from there")
        self._say(f"  {self._options.again} --fresh  begins anew")

    def _say(self, text: str) -> None:
        self._console.print(text, markup=False)


def _positions(place: Path) -> list[str]:
    """How far each slot was read, in words."""
    from flows.state.look import read_positions

    state = place / "var" / _NAME / "recovery"
    found = read_positions(state, _NAME) if state.is_dir() else {}
    return [
        # a slot's state begins with a version and its phase
        f"slot {name}: its later changes, no second snapshot"
        if position[1] == "stream"
        else f"slot {name}: in the middle of its snapshot"
        for name, position in found.items()
    ]


@contextmanager
def _only_one(place: Path) -> Iterator[None]:
    """Hold the directory. Raises ConfigurationError where another demo does."""
    with (place / _LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigurationError(f"{place}: expected no other demo at work in it, found one") from None
        yield


def _empty(place: Path) -> None:
    (place / _MARK).unlink(missing_ok=True)  # first: what is left of a half removed one is not gone on from
    for path in place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != _LOCK:
            path.unlink()


def _check(place: Path) -> None:
    """Nobody else's directory is used or removed. Raises ConfigurationError."""
    known = {_MARK, _LOCK, "postgres", "var", f"{_NAME}.toml"}
    if place.stat().st_uid != os.getuid() or place.is_symlink():
        raise ConfigurationError(f"{place}: expected a directory of this user, found another's")
    if strange := sorted({path.name for path in place.iterdir()} - known):
        raise ConfigurationError(f"{place}: expected a directory of the demo, found {strange[0]!r} in it")
