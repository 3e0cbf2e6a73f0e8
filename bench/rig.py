"""The bench's real parts: a broker, a PostgreSQL with fsync on, a pipeline file, and `headrace run` as users run it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import MemoryProbe, descendants
from bench.truth import COLUMNS, KEYS, ddl
from control.embedded import ApacheKafka, EmbeddedPostgres, Tansu

# for ours and the peer alike; fsync and synchronous_commit stay on
POSTGRES_SETTINGS: dict[str, str | int | bool] = {"fsync": True, "shared_buffers": "256MB", "max_wal_size": "4GB"}
HEADRACE = (sys.executable, "-m", "control.cli")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command: its whole wall time, its output, its greatest memory, and the samples of it."""

    seconds: float
    code: int
    output: str
    peak_mb: float
    samples: Sequence[tuple[float, int]]


def broker(heap_mb: int = 512) -> ApacheKafka | Tansu:
    """Apache Kafka where Java and Maven are, else Tansu; not started yet."""
    return ApacheKafka(heap_mb=heap_mb) if ApacheKafka.available() else Tansu()


def broker_name(server: ApacheKafka | Tansu) -> str:
    """What the output calls it."""
    return "Apache Kafka" if isinstance(server, ApacheKafka) else "Tansu"


def postgres(**settings: str | int | bool) -> EmbeddedPostgres:
    """A PostgreSQL of its own, perhaps with more settings; not started yet."""
    return EmbeddedPostgres(settings={**POSTGRES_SETTINGS, **settings})


def pipeline(
    path: Path,
    servers: str,
    tables: Mapping[str, tuple[str, Sequence[str] | None, str]],
    *,
    sink: str = "postgres",
    settings: str = "",
    source: str = "",
    steps: str = "",
) -> Path:
    """Write a pipeline file for tables of the workload.

    Args:
        path: PATH/pipeline.toml is written; its state lies beside it.
        tables: name in the file -> (table of the workload, key columns or None for the table's own, topic).
        sink: "postgres" (dsn from BENCH_DSN; the target table is called as in the file) or "null".
        settings: more lines of the sink's section.
        source: more lines of the source's section.
        steps: the `[[step]]` sections; the result goes to a target table of the result's name.
    """
    path.mkdir(parents=True, exist_ok=True)
    lines = ['name = "bench"', "[source.kafka]", f'servers = "{servers}"', source]
    for name, (table, key, topic) in tables.items():
        columns = ", ".join(f'"{column}"' for column in (KEYS[table] if key is None else key))
        lines += [f"[tables.{name}]", f'topic = "{topic}"', f"key = [{columns}]", f'target = "{name}"']
        lines += [f"[tables.{name}.columns]", *(f'{column} = "{types[0]}"' for column, types in COLUMNS[table].items())]
    lines += [steps, f"[sink.{sink}]", 'dsn = "env:BENCH_DSN"' if sink == "postgres" else "", settings]
    file = path / "pipeline.toml"
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


def start(arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own, its output into a file."""
    with log.open("ab") as file:
        return subprocess.Popen(
            list(arguments),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )


def run(
    arguments: Sequence[str], log: Path, environment: Mapping[str, str] | None = None, seconds_max: float = 3600.0
) -> Run:
    """Run a command to its end and watch its memory; raises SystemExit with the log's end where it fails."""
    begun = time.monotonic()
    before = log.stat().st_size if log.exists() else 0
    process = start(arguments, log, environment)
    with MemoryProbe(process.pid) as memory:
        try:
            code = process.wait(seconds_max)
        except BaseException:
            kill_session(process)
            raise
        seconds = time.monotonic() - begun
    output = log.read_bytes()[before:].decode(errors="replace")
    if code != 0:
        raise SystemExit(f"bench: {' '.join(arguments)} ended with code {code}:\n{output[-4000:]}")
    return Run(seconds, code, output, memory.peak_mb, memory.samples)


def headrace_run(
    file: Path, dsn: str, processes: int = 1, *, until_end: bool = True
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of `headrace run FILE`."""
    arguments = [*HEADRACE, "run", str(file), "--processes", str(processes)]
    return arguments + (["--until-end"] if until_end else []), {"BENCH_DSN": dsn}


def clear(connection: Any, table: str | None = None) -> None:
    """An empty target, `table` of the workload created in it, and all that was written so far on disk.

    So no run pays for the one before.
    """
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (name,) in connection.execute(tables).fetchall():
        connection.execute(f'DROP TABLE "{name}" CASCADE')
    if table is not None:
        connection.execute(ddl(table))
    connection.execute("CHECKPOINT")


def workers(process: subprocess.Popen[Any]) -> list[int]:
    """Process ids of the Bytewax workers below a `headrace run`."""
    found = []
    for pid in descendants(process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:  # it ended while we looked
            continue
        if b"bytewax.run" in command and pid != process.pid:
            found.append(pid)
    return found


def kill_session(process: subprocess.Popen[Any]) -> None:
    """kill -9 for a command that start() started; its workers end with it."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def status_sum(state: Path, field: str) -> int:
    """A counter added up over the workers' last words in a state directory."""
    import json

    return sum(int(json.loads(path.read_text()).get(field, 0)) for path in (state / "run").glob("worker-*.json"))
