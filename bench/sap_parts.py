"""What the measures of SAP share: rows of order items, a flow that is run whole, and a target that is compared.

The rate is that of `headrace run` into the null target, its start (the same flow over nothing) taken off; beside it, on
standard error, that of processor time, which does not count what others do on the machine meanwhile. One more run
into a PostgreSQL shows that the numbers are right: it has as many rows, and the same sums, as were made.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from bench import rig
from bench.measure import Result, Taken, say
from bench.w1 import without_start

NULL = "[sink.null]\n"
POSTGRES = '[sink.postgres]\ndsn = "env:BENCH_DSN"\n'
CURRENCIES = (("EUR", 2), ("USD", 2), ("JPY", 0))


@dataclass(frozen=True, slots=True)
class Sums:
    """What a target must hold: rows, the sum of their amounts, the sum of their quantities."""

    rows: int
    amounts: Decimal
    quantities: Decimal


def items(count: int) -> Iterator[dict[str, Any]]:
    """Order items of 20 columns, the numbers as text; `cents` is the amount as if each currency had two decimals."""
    for number in range(count):
        currency, _ = CURRENCIES[number % len(CURRENCIES)]
        yield {
            "VBELN": f"{4_000_000 + number // 10:010d}", "POSNR": f"{number % 10 * 10 + 10:06d}",
            "MATNR": f"M-{number * 7919 % 50_000:06d}", "ARKTX": f"Centrifugal pump, size {number % 97}",
            "WERKS": "1000", "LGORT": f"{number % 9:04d}", "CHARG": f"{number * 31 % 100_000:010d}", "PSTYV": "TAN",
            "KWMENG": f"{number % 500}.125", "VRKME": "EA", "NETPR": f"{number % 9_000}.50", "NETWR": f"{number}.25",
            "WAERK": currency, "KPEIN": "1", "KMEIN": "EA", "ERDAT": "20240229", "ERZET": "153016", "AEDAT": "20240301",
            "ERNAM": f"USER{number % 40:02d}",
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Flow:
    """A pipeline over a double.

    Args:
        name: of the measure.
        scratch: a folder for its files.
        environment: of the process.
        file: writes the pipeline file for a sink's section, over the rows (True) or over nothing.
        truth: what the target must hold.
        columns: of the target: its table, the amount, the quantity.
    """

    name: str
    scratch: Path
    environment: Mapping[str, str]
    file: Callable[[str, bool], Path]
    truth: Sums
    columns: tuple[str, str, str]

    def run(self, sink: str, full: bool, dsn: str = "") -> tuple[rig.Run, int, Taken]:
        """One `headrace run --until-end` with a new state directory; the run, the rows that it read, what it cost."""
        arguments, of_run = rig.headrace_run(self.file(sink, full), dsn)
        with tempfile.TemporaryDirectory(dir=self.scratch) as state:
            environment = {**self.environment, **of_run, "HEADRACE_STATE_DIR": state}
            begun = _processor_s()
            done = rig.run(arguments, self.scratch / "ours.log", environment)
            taken = Taken(_processor_s() - begun, done.seconds)
            return done, rig.status_sum(Path(state), "events"), taken


def _processor_s() -> float:
    """Of the processes that this one waited for, and of theirs."""
    times = os.times()
    return times.children_user + times.children_system


def compared(connection: Any, table: str, amount: str, quantity: str) -> Sums:
    """The same of a target's table."""
    found = connection.execute(f'SELECT count(*), sum("{amount}"), sum("{quantity}") FROM "{table}"').fetchone()
    return Sums(*found)


def measured(flow: Flow, pairs: int, alone: Callable[[], float]) -> Result:
    """A source's rate, `pairs` times in turn with a start alone and with its double alone.

    Args:
        alone: rows a second that the double gives to a reader that does nothing with them.
    """
    rates, doubles, peak_mb, equal = [], [], 0.0, True
    for _ in range(pairs):
        doubles.append(alone())
        _, _, start = flow.run(NULL, False)
        done, seen, whole = flow.run(NULL, True)
        rest = Taken(without_start(whole.processor_s, start.processor_s), without_start(whole.wall_s, start.wall_s))
        rates.append(flow.truth.rows / rest.wall_s)
        peak_mb, equal = max(peak_mb, done.peak_mb), equal and seen == flow.truth.rows
        say(flow.name, flow.truth.rows, "rows", {f"{seen:,} seen": rest})
        print(f"  {flow.name}: the double alone {doubles[-1]:,.0f} rows/s", file=sys.stderr, flush=True)
    with rig.postgres() as server:
        import psycopg

        flow.run(POSTGRES, True, server.dsn())
        with psycopg.connect(server.dsn()) as connection:
            found = compared(connection, *flow.columns)
    print(f"  {flow.name}: the target holds {found}, expected {flow.truth}", file=sys.stderr, flush=True)
    rate, double = statistics.median(rates), statistics.median(doubles)
    equal = equal and found == flow.truth
    return Result(flow.name, rate, "rows/s", "its double alone", double, rate / double, peak_mb, equal)
