"""`headrace demo`: real changes from a broker, and from an ERP itself, into a real PostgreSQL; the proof of equality.

First two pipelines from Kafka, each run as `headrace run` runs it: an ERP's customers, orders and items
(bench/generate.py, schemas off), then a stream recorded from a real Debezium (schemas on). Then an ERP that is written
to meanwhile, read directly (demo_live.py). The servers are its own; all is gone at the end.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from control import demo_live, runner
from control.embedded import EmbeddedPostgres, Tansu
from control.pipeline import start_plan
from control.progress import Progress, summary_text
from libcore.errors import ConfigurationError

_PARTITIONS = 4
_DSN = "HEADRACE_DEMO_DSN"
# Rows of the recording that no target can hold: arrays of two dimensions, of which Debezium 3.6 writes only Java's name
# for them, and a date beyond PostgreSQL's range, Debezium's stand-in for infinity.
_LOST = {"sp.public.alltypes": 2, "sp.public.orders": 1}
# A database that may lose nothing, as in production.
_SETTINGS: Mapping[str, str | int | bool] = {"fsync": True, "shared_buffers": "128MB", "max_wal_size": "2GB"}


@dataclass(frozen=True, slots=True)
class Stage:
    """What the demo runs on.

    Args:
        servers: the broker. postgres: the started server. folder: for pipeline files and their state.
        processes: worker processes. console: where to show.
    """

    servers: str
    postgres: EmbeddedPostgres
    folder: Path
    processes: int
    console: Console

    def say(self, text: str) -> None:
        """A line for the person."""
        self.console.print(text, markup=False)

    def run(self, name: str, text: str) -> runner.Result:
        """Write a pipeline file and run it to its topics' ends."""
        file = self.folder / f"{name}.toml"
        file.write_text(text, "utf-8")
        self.say(f"  headrace run {file} --processes {self.processes} --until-end")
        plan, stopping = start_plan(file, until_end=True), threading.Event()
        with Progress(self.console) as progress:
            result = runner.run(
                plan.flow,
                plan.state_dir,
                self.processes,
                environment={_DSN: self.postgres.dsn("warehouse")},
                display=progress,
                stopping=stopping,
            )
        self.say(f"  {summary_text(result)}")
        if stopping.is_set():
            raise KeyboardInterrupt
        return result


def main(
    events: int,
    processes: int,
    *,
    keep: bool = False,
    console: Console | None = None,
    parts: Sequence[str] = ("kafka", "live"),
    live: demo_live.Options | None = None,
) -> int:
    """Run the demo.

    Args:
        events: item events; customers and orders come on top.
        processes: worker processes.
        keep: wait for Enter before everything from Kafka is taken away, and say where it is.
        console: where to show.
        parts: which halves.
        live: how the half that reads the ERP directly runs; where it was interrupted, it alone goes on.
    Returns: 0 where every table is equal, or Ctrl-C ended it.
    """
    console = console or Console(highlight=False, soft_wrap=True)
    live = live or demo_live.Options(items=events // 4, processes=processes)
    try:
        code = 0
        if "kafka" in parts and not ("live" in parts and demo_live.interrupted(live)):
            code = _kafka(events, processes, keep, console)
        if code == 0 and "live" in parts and demo_live.run(live, console) is False:
            console.print("\nNOT EQUAL: see above")
            code = 1
    except KeyboardInterrupt:
        again = "goes on with its ERP" if demo_live.interrupted(live) else "begins anew"
        console.print(f"\nstopped; {live.again} {again}", markup=False)
        return 0
    return code


def _kafka(events: int, processes: int, keep: bool, console: Console) -> int:
    """The half that comes from a broker; 0 where every table is equal."""
    generate, truth, recording = (_measures(name) for name in ("generate", "truth", "recording"))
    with ExitStack() as stack:
        postgres = stack.enter_context(EmbeddedPostgres(settings=_SETTINGS))
        broker = stack.enter_context(Tansu())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="headrace-demo-")))
        postgres.create_database("warehouse")
        stage = Stage(broker.servers, postgres, folder, processes, console)
        stage.say(f"PostgreSQL 18 on {postgres.dsn('warehouse')}, broker on {broker.servers}")
        rate = _workload(stage, events, generate, truth)
        equal = rate is not None and _recording(stage, recording)
        if keep:
            console.input("Everything runs until you press Enter. ")
    if rate is None or not equal:
        stage.say("\nNOT EQUAL: see above")
        return 1
    lost = f"every row of every table but {sum(_LOST.values())} that the recording itself has lost"
    stage.say(f"\nequal: {lost}; {rate:,.0f} events/s from the first start to the last commit")
    return 0


def _measures(name: str) -> Any:
    """A module of bench/, by name, because nothing in the product may depend on its measures."""
    try:
        return importlib.import_module(f"bench.{name}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(f"the demo's events are not installed ({error}): run it in a checkout") from error


def _workload(stage: Stage, events: int, generate: Any, truth: Any) -> float | None:
    """Events/s where every table is equal, else None."""
    begun = time.monotonic()
    stage.say(f"\nan ERP's changes: {events:,} of order items, with their orders and customers ...")
    directory = generate.cached(events)
    topics = {table: f"erp.public.{table}" for table in truth.COLUMNS}
    counts = generate.produce(stage.servers, directory, topics, _PARTITIONS)
    count = sum(counts.values())
    stage.say(f"  {count:,} Debezium events in {len(topics)} topics after {time.monotonic() - begun:.0f} s")
    result = stage.run("erp", _workload_file(stage.servers, topics, truth))
    if result.exit_code != 0:
        return None
    equal = True
    lines = Table("table", "rows expected", "found", "missing", "extra", box=None)
    for table in topics:
        compared = truth.compare(
            truth.final(directory, table), _found(stage.postgres, table, list(truth.COLUMNS[table]), truth)
        )
        equal = equal and compared.equal
        numbers = (compared.expected, compared.found, compared.missing, compared.extra)
        lines.add_row(table, *(f"{number:,}" for number in numbers))
    stage.say("  the target, row by row and value by value, beside what the events must lead to:")
    stage.console.print(lines)
    return count / result.seconds if equal else None


def _workload_file(servers: str, topics: Mapping[str, str], truth: Any) -> str:
    lines = ['name = "erp"', "[source.kafka]", f'servers = "{servers}"']
    for table, topic in topics.items():
        lines += [f"[tables.{table}]", f'topic = "{topic}"', f"key = {json.dumps(truth.KEYS[table])}"]
        lines += [f'target = "{table}"', f"[tables.{table}.columns]"]
        lines += [f'{column} = "{types[0]}"' for column, types in truth.COLUMNS[table].items()]
    return "\n".join([*lines, "[sink.postgres]", f'dsn = "env:{_DSN}"', ""])


def _found(postgres: EmbeddedPostgres, table: str, columns: list[str], truth: Any) -> Any:
    """The target's rows as text, through psql, with no code of the product in between."""
    statement = f"COPY (SELECT {', '.join(columns)} FROM {table}) TO STDOUT (FORMAT csv, NULL '\\N')"
    return truth.as_text(postgres.execute(statement, "warehouse").encode(), columns)


def _recording(stage: Stage, recording: Any) -> bool:
    path = recording.RECORDINGS / "sp.ndjson"
    if not path.exists():
        raise ConfigurationError(f"{path}: expected the recorded Debezium stream, found nothing: run it in a checkout")
    stage.say(
        "\na stream recorded from a real Debezium: a table of every kind of column, tables with and without a key,"
    )
    stage.say("columns that come and go in mid-stream, deletes, a truncate ...")
    counts = recording.produce(stage.servers, path)
    stage.say(f"  {sum(counts.values()):,} messages in {len(counts)} topics")
    text = [
        'name = "recorded"',
        "[source.kafka]",
        f'servers = "{stage.servers}"',
        "[tables.recorded]",
        'topic = "sp.public.*"',
        'target = "{schema}_{table}"',
        # Its topics have two partitions, where a truncate's place among the rows is not known.
        'on_truncate = "ignore"',
        # It drops a column: the target keeps it.
        'on_schema_change = "follow"',
        "[sink.postgres]",
        f'dsn = "env:{_DSN}"',
        "",
    ]
    result = stage.run("recorded", "\n".join(text))
    if result.exit_code != 0:
        return False
    if result.totals.dead_letters:
        stage.say("  the dead letters are meant to be: values that the messages themselves have lost, or that no")
        stage.say("  PostgreSQL date can hold; each is kept with its message, its error and the byte it is about")
    return _verified(stage, stage.folder / "recorded.toml")


def _verified(stage: Stage, file: Path) -> bool:
    """What `headrace verify` says."""
    from control.cli.support import quiet_logs
    from flows.verify import verify

    os.environ[_DSN] = stage.postgres.dsn("warehouse")
    with quiet_logs(logging.ERROR):
        report = verify(str(file))
    *lines, _ = report.lines()  # the last one sums up, and knows nothing of what is lost on purpose
    for line in lines:
        stage.say(f"  {line}")
    lost = {table.source: table.unreadable for table in report.tables if table.unreadable}
    if lost != _LOST:
        stage.say(f"  expected to be lost: {_LOST}, found: {lost}")
    return lost == _LOST and all(table.difference.is_equal for table in report.tables)
