"""A flow for the killing tests: numbers from three partitions in random batches into a PostgreSQL table without a key.

With DIE_AT=n the process kills itself with -9 in its n-th snapshot that wrote a segment, a moment after it: the epoch
is not durable, and an applier that does not wait for that has had the time to show it.

Run by `python -m bytewax.run tests.connectors.sink_flow:flow`; rows per partition, state directory and
parts come from ROWS, STATE and PARTS in the environment, the dsn from HEADRACE_TEST_DSN.
"""

from __future__ import annotations

import os
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import FixedPartitionedSource, StatefulSourcePartition

from connectors.base.items import Tick
from connectors.base.sink import SinkPart, SpooledSink
from connectors.postgres.config import PostgresConfig, TargetTable
from connectors.postgres.target import PostgresTarget
from tests.connectors.changes import batch, table

LEDGER = table("ledger", (), partition="int32", number="int64")
ROWS, PARTS = int(os.environ.get("ROWS", "0")), int(os.environ.get("PARTS", "3"))


class NumbersPart(StatefulSourcePartition):
    """Numbers from the position on, a few at a time; two epochs with ticks at the end."""

    def __init__(self, partition: int, position: int) -> None:
        self._partition, self._position = partition, position
        self._ticks = 2
        self._awake: datetime | None = None

    def next_batch(self) -> list[Any]:
        """A random number of rows, spread over the parts, and a tick to each part."""
        self._awake = datetime.now(UTC) + timedelta(milliseconds=random.choice([1, 3, 8]))
        ticks: list[Any] = [(str(part), Tick()) for part in range(PARTS)]
        if self._position >= ROWS:
            if not self._ticks:
                raise StopIteration
            self._ticks -= 1
            return ticks
        numbers = range(self._position, min(ROWS, self._position + random.randint(0, 30)))
        self._position = max(self._position, numbers.stop)
        rows = [{"partition": self._partition, "number": number} for number in numbers]
        some = [(part, [row for row in rows if row["number"] % PARTS == part]) for part in range(PARTS)]
        return [(str(part), batch(LEDGER, mine, mine[0]["number"] + 1)) for part, mine in some if mine] + ticks

    def next_awake(self) -> datetime | None:
        """A few milliseconds later."""
        return self._awake

    def snapshot(self) -> int:
        """The next number."""
        return self._position


class Numbers(FixedPartitionedSource):
    """Three partitions."""

    def list_parts(self) -> list[str]:
        """Their names."""
        return ["0", "1", "2"]

    def build_part(self, step_id: str, for_part: str, resume_state: int | None) -> NumbersPart:
        """Begin at the saved number."""
        return NumbersPart(int(for_part), resume_state or 0)


class DyingPart(SinkPart):
    """Dies in its n-th snapshot with a segment; n from DIE_AT."""

    _left = int(os.environ.get("DIE_AT", "0"))

    def snapshot(self) -> tuple[Any, ...]:
        """As the real one, until the end."""
        former = self._seq
        state = super().snapshot()
        if self._seq > former:
            DyingPart._left -= 1
            if DyingPart._left == 0:
                time.sleep(0.2)
                os.kill(os.getpid(), signal.SIGKILL)
        return state


class DyingSink(SpooledSink):
    """The real sink with parts that may die."""

    def build_part(self, step_id: str, for_part: str, resume_state: tuple[Any, ...] | None) -> SinkPart:
        """The real part, as another class."""
        part = super().build_part(step_id, for_part, resume_state)
        part.__class__ = DyingPart
        return part


def build() -> Dataflow:
    """The flow."""
    target = PostgresTarget(
        PostgresConfig(dsn="env:HEADRACE_TEST_DSN"), "killed", "store-k", PARTS, {"ledger": TargetTable("ledger")}
    )
    target.preflight([LEDGER])
    sink = DyingSink("killed", PARTS, Path(os.environ["STATE"]) / "spool", 1 << 24, "store-k", target)
    made = Dataflow("killed")
    op.output("out", op.input("in", made, Numbers()), sink)
    return made


if "STATE" in os.environ:
    flow = build()
