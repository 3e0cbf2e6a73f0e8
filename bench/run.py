"""Runs the measures: `python -m bench.run NAME [--json]`, or `--all` for every one with a table at the end.

Standard output has the results alone, a JSON line each with --json; what happens meanwhile goes to standard error.
"""

from __future__ import annotations

import argparse
import importlib
import subprocess
import sys
from collections.abc import Callable, Sequence

from bench.measure import Result, table

Measure = Callable[..., Result | list[Result]]


# looked up on demand: a measure of one system must not need the drivers of another
MEASURES: dict[str, str] = {
    "w1": "bench.w1:w1",
    "w1-null": "bench.w1:w1_null",
    "w2": "bench.w2:w2",
    "w2-naive": "bench.w2:w2_naive",
    "w2-null": "bench.w2:w2_null",
    "w2-hard": "bench.w2:w2_hard",
    "state": "bench.state:state",
    "state-bytes": "bench.state:state_bytes",
    "state-resume": "bench.state:state_resume",
    "decode": "bench.decode:decode",
    "decode-flat": "bench.decode:decode_flat",
    "decode-simdjson": "bench.decode_simdjson:decode_simdjson",
    "delimited": "bench.delimited:delimited",
    "pgoutput": "bench.pgoutput:pgoutput",
    "avro": "bench.avro:avro",
    "redo": "bench.redo:redo",
    "oracle-logminer": "bench.oracle:oracle_logminer",
    "sqlserver-changes": "bench.sqlserver:sqlserver_changes",
    "rfc-rows": "bench.sapfmt:rfc_rows",
    "sap-rfc": "bench.sap_rfc:sap_rfc",
    "sap-odata": "bench.sap_odata:sap_odata",
    "sap-idoc": "bench.sap_idoc:sap_idoc",
    "scatter": "bench.rows:scatter",
    "pgcopy": "bench.rows:pgcopy",
    "table": "bench.table:table",
    "table-lookup": "bench.table:table_lookup",
    "table-growth": "bench.table:table_growth",
    "table-memory": "bench.table:table_memory",
    "matrix": "bench.matrix:matrix",
    "digest": "bench.transform:digest",
    "mask-hash": "bench.transform:mask_hash",
    "decimal-multiply": "bench.transform:decimal_multiply",
    "latency-kafka": "bench.latency:latency_kafka",
    "latency-postgres": "bench.postgres_latency:latency_postgres",
    "postgres-source": "bench.postgres_source:postgres_source",
    "postgres-transaction": "bench.postgres_transaction:postgres_transaction",
    "postgres-transaction-streamed": "bench.postgres_transaction:postgres_transaction_streamed",
    "postgres-debezium-snapshot": "bench.postgres_debezium:debezium_snapshot",
    "postgres-debezium-stream": "bench.postgres_debezium:debezium_stream",
    "postgres-target-down": "bench.postgres_target_down:postgres_target_down",
    "idle-partitions": "bench.idle:idle_partitions",
    "join": "bench.join:join",
    "steady": "bench.steady:steady",
    "soak": "bench.soak:soak",
}
TIMED = ("steady", "postgres-target-down")  # those that run for a given time
MINUTES = 30.0


def function(name: str) -> Measure:
    """What runs a measure. Raises SystemExit that lists the names for an unknown one."""
    if name not in MEASURES:
        raise SystemExit(f"bench: no measure {name!r}; expected one of {', '.join(MEASURES)}")
    module, _, attribute = MEASURES[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def measure(
    name: str, items: int = 1_000_000, pairs: int = 5, processes: int = 1, minutes: float = MINUTES
) -> list[Result]:
    """Run one measure; `matrix` gives several results. Raises SystemExit that lists the names for an unknown one.

    Args:
        name: one of MEASURES.
        items: item events in the workload.
        pairs: how many times ours and the peer run in turn.
        processes: worker processes of ours.
        minutes: how long those in TIMED run.
    """
    timed = {"minutes": minutes} if name in TIMED else {}
    found = function(name)(items, pairs, processes, **timed)
    return found if isinstance(found, list) else [found]


def main(
    name: str,
    as_json: bool = False,
    *,
    items: int = 1_000_000,
    pairs: int = 5,
    processes: int = 1,
    minutes: float = MINUTES,
) -> int:
    """What `headrace bench NAME [--json]` does; exit code 1 where the result is not equal to the truth."""
    results = measure(name, items, pairs, processes, minutes)
    print("\n".join(result.to_json() for result in results) if as_json else table(results), flush=True)
    return 0 if all(result.equal for result in results) else 1


def every(items: int, pairs: int, processes: int, minutes: float, names: Sequence[str]) -> int:
    """Each measure in a process of its own, so that none inherits another's memory; the table at the end."""
    import json

    results, failed = [], []
    for name in names:
        options = ["--items", str(items), "--pairs", str(pairs), "--processes", str(processes)]
        options += ["--minutes", str(minutes)]
        arguments = [sys.executable, "-m", "bench.run", name, "--json", *options]
        done = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=False)
        results += [Result(**json.loads(line)) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode != 0:
            failed.append(name)
    print(table(results))
    if failed:
        print(f"failed, or not equal to the truth: {', '.join(failed)}")
    return 1 if failed else 0


def command(arguments: Sequence[str]) -> int:
    """The command line of this module; the exit code."""
    parser = argparse.ArgumentParser(prog="bench.run", description="Measure Headrace beside its peers.")
    parser.add_argument("name", nargs="?", help=f"one of {', '.join(MEASURES)}")
    parser.add_argument("--all", action="store_true", help="all of them")
    parser.add_argument("--json", action="store_true", help="one JSON line")
    parser.add_argument("--items", type=int, default=1_000_000, help="item events (1000000)")
    parser.add_argument("--pairs", type=int, default=5, help="interleaved pairs, of which the median counts (5)")
    parser.add_argument("--processes", type=int, default=1, help="worker processes of ours (1)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"of {', '.join(TIMED)} ({MINUTES:g})")
    options = parser.parse_args(arguments)
    if options.all == bool(options.name):
        parser.error("expected one NAME, or --all")
    if options.all:
        return every(options.items, options.pairs, options.processes, options.minutes, list(MEASURES))
    return main(
        options.name,
        options.json,
        items=options.items,
        pairs=options.pairs,
        processes=options.processes,
        minutes=options.minutes,
    )


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
