"""What the killing runs share that read a system directly: a writer that never stops, the moments, the comparison.

Each run has a source of its own, filled and under its writer. `FollowedRig` starts the flow without an end, so that a
hit reaches the snapshot, the hand-over or the stream, and stops it once it follows the changes. Behind that the writer
stops, one more run brings what is left, and the target is compared with what the writer knows.
"""

from __future__ import annotations

import importlib
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench import crash, rig, truth
from bench.crash import Rig
from bench.crash_script import COLUMNS, Change, Row, Script
from control.embedded import EmbeddedPostgres

MOMENTS = ("snapshot", "hand-over", "stream")
SNAPSHOT_S = 3.0
"""How long a snapshot of a followed source takes at least: the guardian's rate makes it so."""
_STAY_S = {"snapshot": 0.6 * SNAPSHOT_S, "hand-over": 0.1, "stream": 1.5}
_COMPLETE = 0.9  # so much of the items in the target: their snapshot is through, or nearly
_BEAT_S = 0.1
_SEEN = "count(*), max(quantity) FILTER (WHERE order_id = 0)"


class Writer(threading.Thread, ABC):
    """Changes a source until it is stopped; a seed's changes are the same each time."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True)
        self.chance = random.Random(seed)
        self.ended = threading.Event()
        self.transactions = 0
        self._error: BaseException | None = None

    def run(self) -> None:
        """Write."""
        try:
            self.work()
        except BaseException as error:
            self._error = error

    @abstractmethod
    def work(self) -> None:
        """Transactions until `ended` is set; goes on behind a kill of the source."""

    def stop(self) -> None:
        """Wait until nothing more comes. Raises what ended the writer before."""
        self.ended.set()
        self.join()
        if self._error is not None:
            raise self._error


class SteppedWriter(Writer):
    """A writer that writes one transaction after the other."""

    def work(self) -> None:
        """See Writer.work."""
        while not self.ended.is_set():
            self.write()
            self.transactions += 1

    @abstractmethod
    def write(self) -> None:
        """One transaction."""


class ScriptWriter(SteppedWriter):
    """A writer of a script's changes, with a beat among them.

    Args:
        rows: of the items that are there before.
    """

    def __init__(self, rows: int, seed: int, *, note_characters: int) -> None:
        super().__init__(seed)
        self.script = Script(rows, self.chance, note_characters)
        self._beat_at = 0.0

    def beat_is_due(self) -> bool:
        """Whether the last one is a moment ago."""
        due = time.monotonic() > self._beat_at + _BEAT_S
        self._beat_at = time.monotonic() if due else self._beat_at
        return due


class ChangeWriter(ScriptWriter):
    """A writer that sends one change after the other, with a pause behind each transaction."""

    wait_s = 0.02

    def write(self) -> None:
        """See SteppedWriter.write."""
        for change in self.script.transaction(*COLUMNS):
            self.send(change)
        if self.beat_is_due():
            self.send(self.script.beat())
        self.ended.wait(self.wait_s)

    @abstractmethod
    def send(self, change: Change) -> None:
        """Do it at the source."""


class Look:
    """A session at a PostgreSQL server that may be killed at any time; it comes again by itself.

    Args:
        dsn: where, as it is at each beginning.
    """

    def __init__(self, dsn: Callable[[], str]) -> None:
        self._dsn = dsn
        self._session: Any = None

    def ask(self, query: str) -> list[Row]:
        """Rows of a query; none while the server does not answer, or the table is not there."""
        import psycopg

        try:
            if self._session is None:
                self._session = psycopg.connect(self._dsn(), autocommit=True)
            return list(self._session.execute(query).fetchall())
        except psycopg.errors.UndefinedTable:
            return []
        except psycopg.Error:
            self.close()
            return []

    def close(self) -> None:
        """End it; the next question begins a new one."""
        if self._session is not None:
            self._session.close()
            self._session = None


class DirectRig(Rig, ABC):
    """A source that is read directly into PostgreSQL, and no broker."""

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__("", postgres, scratch, scratch)
        self._rows = rows
        self.runs = 0
        """The number of the run, which its writer's changes are made of; 0 before the first."""
        self._writer: Any = None  # the subclass's own kind of Writer
        self._stopped = True
        self._file = scratch

    def fill(self) -> None:
        """Nothing: each run has a source of its own."""

    def write(self, directory: Path) -> Path:
        """The pipeline's file, and a filled source with a writer on it."""
        self._stop()
        directory.mkdir(parents=True)
        self.runs += 1
        self._file = directory / "pipeline.toml"
        self._writer, self._stopped = self.begin(), False
        self._writer.start()
        self._file.write_text(self.text(), "utf-8")
        return self._file

    @abstractmethod
    def begin(self) -> Any:
        """Fill this run's source; its writer, not started yet: a Writer, or several with the same face."""

    @abstractmethod
    def text(self) -> str:
        """The pipeline's file."""

    def compare(self) -> dict[str, truth.Comparison]:
        """Source and target, behind a last run with a writer that has stopped."""
        import psycopg

        self._stop()
        self.settle()
        process = self.start(self._file, 1, until_end=True)
        try:
            if process.wait(self.seconds_max) != 0:
                log = crash.log_end(self._file)
                raise SystemExit(f"bench: the last run ended with code {process.returncode}:\n{log}")
        finally:
            rig.kill_session(process)
        with psycopg.connect(self.postgres.dsn("crash")) as target:
            return {name: self.compared(target, name) for name in self.tables}

    def settle(self) -> None:
        """What a source needs behind its last change, so that a reader sees it; nothing."""

    @abstractmethod
    def compared(self, target: Any, table: str) -> truth.Comparison:
        """A table of the target with what it must be, through an open connection."""

    def close(self) -> None:
        """End the writer."""
        self._stop()
        shutil.rmtree(self.scratch / "run", ignore_errors=True)

    def _stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            self._writer.stop()
            print(f"  the writer committed {self._writer.transactions} transactions", flush=True)


class MomentRig(DirectRig):
    """It can tell what the flow reads at a moment, so a hit is aimed at one."""

    moments: tuple[str, ...] = MOMENTS

    @abstractmethod
    def moment(self) -> str:
        """One of `moments`; "" for none of them."""

    def stay_s(self, moment: str) -> float:
        """For how long such a moment lasts, about."""
        return _STAY_S[moment]

    def wait(self, process: subprocess.Popen[bytes], chance: random.Random) -> str:
        """Until a random time in one of the moments; which it is."""
        wanted, share = chance.choice(self.moments), chance.uniform(0.0, 1.0)
        self.reach(process, wanted)
        time.sleep(share * self.stay_s(wanted))
        return self.told(wanted)

    def told(self, wanted: str) -> str:
        """When a hit comes that was meant for a moment."""
        found = self.moment() or wanted
        return f"at the {found}" if found == "hand-over" else f"in the {found}"

    def reach(self, process: subprocess.Popen[bytes], wanted: str) -> bool:
        """Wait until the flow is at a moment or behind it; False where it ends, or does not get there."""
        deadline = time.monotonic() + self.seconds_max
        while process.poll() is None and time.monotonic() < deadline:
            found = self.moment()
            if found and self.moments.index(found) >= self.moments.index(wanted):
                return True
            time.sleep(0.005)
        return False


class EndlessRig(MomentRig):
    """The flow is started without an end, and stopped in the last of the moments, which the target's rows tell."""

    until_end = False

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._target = Look(lambda: self.postgres.dsn("crash"))
        self._processes = 0

    def write(self, directory: Path) -> Path:
        """See DirectRig.write."""
        self._target.close()
        return super().write(directory)

    def start(self, file: Path, processes: int, *, until_end: bool = False) -> Any:
        """See Rig.start."""
        self._processes = processes
        return super().start(file, processes, until_end=until_end)

    def ended(self, process: subprocess.Popen[bytes]) -> int:
        """See Rig.ended: all its workers live and it goes on behind the last hit, before it is stopped."""
        self.reach(process, self.moments[-1])
        seen: set[int] = set()
        deadline = time.monotonic() + self.seconds_max
        while process.poll() is None and len(seen) < 3:  # the second may be the last word of a worker that was killed
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(process.args, self.seconds_max)
            whole = len(rig.workers(process)) == self._processes
            seen = seen | ({self.progress()} - {0}) if whole else set()
            time.sleep(0.01)
        self.finish()
        process.send_signal(signal.SIGTERM)
        return super().ended(process)

    @abstractmethod
    def progress(self) -> int:
        """A number that rises in the target for as long as the flow goes on; 0 where nothing is seen."""

    def finish(self) -> None:
        """What a writer needs a running flow for before it can end; nothing."""

    def compared(self, target: Any, table: str) -> truth.Comparison:
        """See DirectRig.compared."""
        columns, expected = self.expected(table)
        listed = ", ".join(f'"{column}"' for column in columns)
        return truth.counted(expected, Counter(target.execute(f'SELECT {listed} FROM "{table}"').fetchall()))

    @abstractmethod
    def expected(self, table: str) -> tuple[Sequence[str], Counter[Row]]:
        """Columns of a table, and the rows that the target must have behind the last run."""

    def seen(self, table: str, what: str) -> Row | None:
        """What a query finds in a table of the target now; None while it does not answer, or the table is not there."""
        return next(iter(self._target.ask(f'SELECT {what} FROM "{table}"')), None)

    def close(self) -> None:
        """See DirectRig.close."""
        super().close()
        self._target.close()


class FollowedRig(EndlessRig):
    """A source that a `Script` changes and the flow follows.

    One row of the items is the writer's beat. It is read with the first rows; once its value in the target moves, the
    flow is in the stream.
    """

    def __init__(self, postgres: EmbeddedPostgres, rows: int, scratch: Path) -> None:
        super().__init__(postgres, rows, scratch)
        self._begun_beat: int | None = None
        self._streamed = False

    @property
    def rows_per_second_max(self) -> int:
        """The guardian's rate, at which the snapshot is long enough to be hit."""
        return max(100, int(self._rows / SNAPSHOT_S))

    def write(self, directory: Path) -> Path:
        """See DirectRig.write."""
        self._streamed = False
        return super().write(directory)

    def start(self, file: Path, processes: int, *, until_end: bool = False) -> Any:
        """See Rig.start."""
        self._begun_beat = None
        return super().start(file, processes, until_end=until_end)

    def progress(self) -> int:
        """See EndlessRig.progress: the beat."""
        return (self.seen("items", _SEEN) or (0, 0))[1] or 0

    def moment(self) -> str:
        """See MomentRig.moment."""
        items, beat = self.seen("items", _SEEN) or (0, None)
        (entries,) = self.seen("ledger", "count(*)") or (0,)
        if not items:
            return ""
        if items < _COMPLETE * min(self._rows, len(self._writer.script.tables["items"])) or not entries:
            return "snapshot"
        self._begun_beat = beat if self._begun_beat is None else self._begun_beat
        if beat != self._begun_beat:
            self._streamed = True
            return "stream"
        return "" if self._streamed else "hand-over"

    def expected(self, table: str) -> tuple[Sequence[str], Counter[Row]]:
        """See EndlessRig.expected."""
        return COLUMNS[table], Counter(self._writer.script.tables[table].values())


def crash_directly(runs: int, seed: int, first: int, flow: str, rows: int) -> int:
    """All the runs of a flow that reads its source directly; the number of those that ended equal."""
    equal, hits = 0, Counter[str]()
    with (
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-crash-") as scratch,
        ExitStack() as stack,
    ):
        opened = importlib.import_module(f"bench.crash_{flow}").opened
        parts: DirectRig = opened(stack, postgres, rows, Path(scratch))
        stack.callback(parts.close)
        parts.runs = first - 2  # the run without harm comes before the first one, whose changes are of its number
        parts.fill()
        parts.clean_seconds = crash.clean(parts)
        print(f"{flow}, {rows:,} rows; a run without harm takes {parts.clean_seconds:.1f} s", flush=True)
        for number in range(first, first + runs):
            begun = time.monotonic()
            outcome = crash.one(parts, number, seed)
            equal += outcome.equal
            hits.update(outcome.hits)
            print(f"{outcome} ({time.monotonic() - begun:.0f} s)", flush=True)
    print("; ".join(f"{count} x {name}" for name, count in sorted(hits.items())), flush=True)
    print(f"{runs} runs, {equal} equal", flush=True)
    return equal
