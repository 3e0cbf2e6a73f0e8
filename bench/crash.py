"""The killing runs: kill -9 at random moments, restart at another process count, compare with the truth each time.

    python -m bench.crash --runs 30 --seed 1

Each run takes a small hard workload into two tables, one by key and one without a key (where a doubled or a lost row
cannot hide), and is hit one to three times: a random worker; a worker while the target is in the middle of a
transaction; the command with all its processes, started again with another process count; PostgreSQL itself. The last
line is `N runs, N equal`.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench import generate, rig, truth
from bench.measure import descendants
from control.embedded import EmbeddedPostgres

ITEMS = 30_000
KEYED, KEYLESS = "erp.public.items", "erp.public.ledger"
PARTITIONS = 2
KINDS = ("worker", "commit", "all", "postgres")
BATCH_ROWS = 1_000  # small epochs: many moments to be hit at
RUN_SECONDS_MAX = 120.0


@dataclass
class Outcome:
    """What happened in one run."""

    number: int
    processes: list[int]
    hits: list[str] = field(default_factory=list)
    missed: int = 0
    compared: dict[str, truth.Comparison] = field(default_factory=dict)

    @property
    def equal(self) -> bool:
        """Whether both tables ended equal to the truth."""
        return len(self.compared) == 2 and all(comparison.equal for comparison in self.compared.values())

    def __str__(self) -> str:
        counts = " -> ".join(map(str, self.processes))
        verdict = "equal" if self.equal else "; ".join(f"{name}: {found}" for name, found in self.compared.items())
        return f"run {self.number}: {counts} processes, {', '.join(self.hits) or 'never hit'}: {verdict}"


class Rig:
    """The started servers and the filled topics, used by all runs."""

    def __init__(self, servers: str, postgres: EmbeddedPostgres, data: Path, scratch: Path) -> None:
        self.servers, self.postgres, self.data, self.scratch = servers, postgres, data, scratch
        self.clean_seconds = 0.0

    def fill(self) -> None:
        """Both topics from the same events; without keys each row's changes still stay in one partition."""
        from connectors.kafka.topics import Producer, create_topics

        generate.produce(self.servers, self.data, {"items": KEYED}, PARTITIONS)
        create_topics(self.servers, {KEYLESS: PARTITIONS})
        producer = Producer(self.servers)
        lines = generate.read(self.data / "items.tsv")
        producer.write(KEYLESS, ((None, value, sum(key) % PARTITIONS) for key, value in lines))
        producer.flush()

    def pipeline(self) -> Path:
        """A new state directory with the pipeline's file in it, and an empty database."""
        shutil.rmtree(self.scratch / "run", ignore_errors=True)
        self.postgres.drop_database("crash")
        self.postgres.create_database("crash")
        tables = {"items": ("items", None, KEYED), "ledger": ("items", (), KEYLESS)}
        source = f"batch_rows_max = {BATCH_ROWS}"
        return rig.pipeline(self.scratch / "run", self.servers, tables, source=source)

    def start(self, file: Path, processes: int) -> subprocess.Popen[bytes]:
        """`headrace run FILE --until-end`."""
        arguments, environment = rig.headrace_run(file, self.postgres.dsn("crash"), processes)
        environment["HEADRACE_STATE_DIR"] = str(file.parent / "state")
        return rig.start(arguments, file.parent / "run.log", environment)

    def compare(self) -> dict[str, truth.Comparison]:
        """Both tables with the truth."""
        import psycopg

        with psycopg.connect(self.postgres.dsn("crash")) as connection:
            return {name: truth.check(connection, name, self.data, "items") for name in ("items", "ledger")}


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


def kill_one(process: subprocess.Popen[Any], chance: random.Random) -> bool:
    """kill -9 for a random worker; False where none lives."""
    alive = workers(process)
    if not alive:
        return False
    try:
        os.kill(chance.choice(sorted(alive)), signal.SIGKILL)
    except ProcessLookupError:  # it ended by itself in this moment
        return False
    return True


def in_transaction(postgres: EmbeddedPostgres, process: subprocess.Popen[Any], seconds_max: float) -> bool:
    """Wait until a session is in the middle of a writing transaction or commits; False if that never comes."""
    import psycopg

    busy = (
        "SELECT 1 FROM pg_stat_activity WHERE datname = 'crash' AND pid <> pg_backend_pid() "
        "AND backend_xid IS NOT NULL AND (state = 'active' OR query ILIKE 'commit%') LIMIT 1"
    )
    deadline = time.monotonic() + seconds_max
    with psycopg.connect(postgres.dsn("crash"), autocommit=True) as connection:
        while time.monotonic() < deadline and process.poll() is None:
            if connection.execute(busy).fetchone():
                return True
    return False


def hit(parts: Rig, kind: str, process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    """Do one kind of harm now; False where it came too late."""
    if process.poll() is not None:
        return False
    if kind == "postgres":
        parts.postgres.kill()
        time.sleep(chance.uniform(0.0, 0.5))
        parts.postgres.start()
        return True
    if kind == "all":
        for pid in descendants(process.pid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:  # killed with its parent
                continue
        process.wait()
        return True
    if kind == "commit" and not in_transaction(parts.postgres, process, 2.0):
        return False
    return kill_one(process, chance)


def one(parts: Rig, number: int, seed: int) -> Outcome:
    """One killing run, the same harm for the same seed and number (the moments are real time)."""
    chance = random.Random(f"{seed}/{number}")
    outcome = Outcome(number, [chance.randint(1, 3)])
    file = parts.pipeline()
    process = parts.start(file, outcome.processes[-1])
    try:
        for _ in range(chance.randint(1, 3)):
            kind, begun = chance.choice(KINDS), time.monotonic()
            time.sleep(chance.uniform(0.15, 0.85) * parts.clean_seconds)
            if hit(parts, kind, process, chance):
                outcome.hits.append(f"{kind} at {time.monotonic() - begun:.2f} s")
            else:
                outcome.missed += 1
            if process.poll() is not None:
                outcome.processes.append(chance.choice([n for n in (1, 2, 3) if n != outcome.processes[-1]]))
                process = parts.start(file, outcome.processes[-1])
        if process.wait(RUN_SECONDS_MAX) != 0:
            raise SystemExit(f"bench: {outcome}\nended with code {process.returncode}:\n{_log(file)}")
        outcome.compared = parts.compare()
    except subprocess.TimeoutExpired:
        raise SystemExit(f"bench: {outcome}\ndid not end within {RUN_SECONDS_MAX:.0f} s:\n{_log(file)}") from None
    finally:
        rig.kill_session(process)
    return outcome


def _log(file: Path) -> str:
    return (file.parent / "run.log").read_text(errors="replace")[-4000:]


def crash(runs: int, seed: int, first: int = 1) -> int:
    """All the runs; the number of those that ended equal."""
    data = generate.cached(ITEMS, hard=True)
    equal = 0
    with (
        rig.broker() as broker,
        rig.postgres() as postgres,
        tempfile.TemporaryDirectory(prefix="headrace-crash-") as scratch,
    ):
        parts = Rig(broker.servers, postgres, data, Path(scratch))
        parts.fill()
        begun = time.monotonic()
        file = parts.pipeline()
        if parts.start(file, 1).wait(RUN_SECONDS_MAX) != 0:
            raise SystemExit(f"bench: a run without any harm fails:\n{_log(file)}")
        parts.clean_seconds = time.monotonic() - begun
        print(f"{rig.broker_name(broker)}; a run without harm takes {parts.clean_seconds:.1f} s", flush=True)
        for number in range(first, first + runs):
            outcome = one(parts, number, seed)
            equal += outcome.equal
            print(outcome, flush=True)
    print(f"{runs} runs, {equal} equal", flush=True)
    return equal


def command(arguments: Sequence[str]) -> int:
    """The command line of this module; the exit code."""
    parser = argparse.ArgumentParser(prog="bench.crash", description="Kill -9 at random moments; compare each time.")
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=1, help="number of the first run, to repeat one")
    options = parser.parse_args(arguments)
    return 0 if crash(options.runs, options.seed, options.first) == options.runs else 1


if __name__ == "__main__":
    sys.exit(command(sys.argv[1:]))
